//! The bodies that JSON is measured with: made from a fixed seed, so that everybody measures the same bytes.

/// One kind of body; each is a JSON text.
pub struct Kind {
    pub name: &'static str,
    pub bodies: Vec<Vec<u8>>,
}

impl Kind {
    pub fn bytes(&self) -> usize {
        self.bodies.iter().map(Vec::len).sum()
    }
}

/// About as many bytes of each kind.
const KIND_BYTES: usize = 1 << 20;

/// How a body of a kind is written.
type Body = fn(&mut Writer);

/// What the kinds are:
/// - `small`: an order or a customer of an API, 200 to 900 bytes, without spaces.
/// - `list`: a page of 100 such objects, without spaces.
/// - `pretty`: the same, indented by two spaces a level.
/// - `deep`: arrays and objects in each other, up to 100 levels, little else.
/// - `strings`: texts of 20 to 2,000 ASCII characters.
/// - `numbers`: coordinates and counters: `[12.508734,-7.0025e-3,4711]`.
/// - `escapes`: texts in which every fourth character or so is an escape, `\u` ones and pairs among them.
/// - `utf-8`: texts of 20 to 200 characters in Greek, Chinese and emoji.
const KINDS: &[(&str, Body)] = &[
    ("small", |writer| writer.record()),
    ("list", |writer| writer.list(100, Writer::record)),
    ("pretty", |writer| writer.pretty()),
    ("deep", |writer| writer.list(40, |writer| writer.nested(100))),
    ("strings", |writer| writer.list(40, |writer| writer.text(20..2000, ASCII))),
    ("numbers", |writer| writer.list(2000, Writer::point)),
    ("escapes", |writer| writer.list(100, |writer| writer.text(20..200, ESCAPES))),
    ("utf-8", |writer| writer.list(100, |writer| writer.text(20..200, WORLD))),
];

pub fn corpus() -> Vec<Kind> {
    KINDS
        .iter()
        .map(|(name, body)| {
            let mut writer = Writer { state: 0x9e37_79b9_7f4a_7c15, out: Vec::new() };
            let mut kind = Kind { name, bodies: Vec::new() };
            while kind.bytes() < KIND_BYTES {
                body(&mut writer);
                kind.bodies.push(std::mem::take(&mut writer.out));
            }
            kind
        })
        .collect()
}

const ASCII: &[&str] = &[
    "the ",
    "order ",
    "was ",
    "shipped ",
    "to ",
    "a ",
    "customer ",
    "in ",
    "Rotterdam, ",
    "and ",
    "paid ",
    "on ",
    "time. ",
    "Invoice ",
    "4711 ",
    "is ",
    "attached: ",
    "see ",
    "page ",
    "two ",
];
const ESCAPES: &[&str] =
    &["\\n", "\\\"", "\\\\", "\\/", "\\t", "\\u00e9", "\\ud83d\\ude00", "abc", "order", "x", "C:", "\\u041b"];
const WORLD: &[&str] = &["α", "β", "λόγος ", "订单", "客户", "付款", "😀", "é", "ä", " ", "ok "];

struct Writer {
    state: u64,
    out: Vec<u8>,
}

impl Writer {
    /// A number below `below`: xorshift64*.
    fn random(&mut self, below: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn list(&mut self, count: usize, mut item: impl FnMut(&mut Self)) {
        self.put("[");
        for at in 0..count {
            if at > 0 {
                self.put(",");
            }
            item(self);
        }
        self.put("]");
    }

    /// So many characters, at least, of these words.
    fn text(&mut self, characters: std::ops::Range<usize>, words: &[&str]) {
        let wanted = characters.start + self.random(characters.len());
        let mut written = 0;
        self.put("\"");
        while written < wanted {
            let word = words[self.random(words.len())];
            self.put(word);
            written += word.chars().count();
        }
        self.put("\"");
    }

    fn number(&mut self) {
        let number = match self.random(4) {
            0 => self.random(100).to_string(),
            1 => self.random(1_000_000_000).to_string(),
            2 => format!("-{}.{:06}", self.random(180), self.random(1_000_000)),
            _ => format!("{}.{:04}e-{}", self.random(10), self.random(10_000), self.random(20)),
        };
        self.put(&number);
    }

    fn point(&mut self) {
        self.list(3, Self::number);
    }

    fn record(&mut self) {
        let number = self.random(1_000_000);
        self.put(&format!("{{\"id\":{number},\"customer\":{{\"name\":"));
        self.text(5..20, ASCII);
        self.put(&format!(",\"email\":\"user{number}@example.com\",\"active\":true}},\"items\":"));
        let count = self.random(6);
        self.list(count, |writer| {
            let (sku, quantity) = (writer.random(100_000), writer.random(10));
            writer.put(&format!("{{\"sku\":\"A-{sku:05}\",\"quantity\":{quantity},\"price\":{quantity}.99,\"note\":"));
            if writer.random(2) == 0 {
                writer.put("null")
            } else {
                writer.text(1..40, ASCII)
            }
            writer.put("}");
        });
        let (total, cents) = (self.random(1000), self.random(100));
        self.put(&format!(",\"total\":{total}.{cents:02},\"tags\":"));
        let count = self.random(4);
        self.list(count, |writer| writer.text(3..10, ASCII));
        self.put(",\"created\":\"2026-11-28T12:00:00Z\",\"paid\":false}");
    }

    fn pretty(&mut self) {
        self.list(100, Self::record);
        let value: serde_json::Value = serde_json::from_slice(&self.out).expect("what was written is JSON");
        self.out = serde_json::to_vec_pretty(&value).expect("a value can be written");
    }

    fn nested(&mut self, levels: usize) {
        if levels == 0 || self.random(30) == 0 {
            return self.put("0");
        }
        if self.random(2) == 0 {
            self.list(1, |writer| writer.nested(levels - 1));
        } else {
            self.put("{\"k\":");
            self.nested(levels - 1);
            self.put("}");
        }
    }
}
