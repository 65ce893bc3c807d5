#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub depth: u32,
    pub entries: u32,
    pub elements: u32,
    pub name: u64,
    pub string: u64,
}
impl Limits {
    pub const NONE: Self =
        Self { depth: 1000, entries: u32::MAX, elements: u32::MAX, name: u64::MAX, string: u64::MAX };
}
