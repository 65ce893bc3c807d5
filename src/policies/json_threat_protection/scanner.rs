use super::limits::Limits;
#[derive(Debug)]
pub struct Violation;
pub struct Scanner {
    limits: Limits,
    depth: u32,
}
impl Scanner {
    pub fn new(limits: Limits) -> Self {
        Self { limits, depth: 0 }
    }
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Violation> {
        for byte in piece {
            match byte {
                b'[' | b'{' => {
                    self.depth += 1;
                    if self.depth > self.limits.depth {
                        return Err(Violation);
                    }
                }
                b']' | b'}' => self.depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }
    pub fn finish(&mut self) -> Result<(), Violation> {
        if self.depth == 0 { Ok(()) } else { Err(Violation) }
    }
}
