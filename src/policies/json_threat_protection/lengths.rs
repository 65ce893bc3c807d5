//! How long strings are, in characters: of a value and of a name.

use super::{bits::below_lowest, limits::Limits, scanner::Violation};

/// The string that 64 bytes end in.
#[derive(Clone, Copy, Debug)]
pub struct Carry {
    /// Its characters so far.
    characters: u64,
    is_name: bool,
}

impl Carry {
    pub const NONE: Self = Self { characters: 0, is_name: false };

    /// One-byte characters, in the midst of a string.
    #[inline(always)]
    pub fn add_text(&mut self, limits: &Limits, characters: u64) -> Result<(), Violation> {
        self.characters += characters;
        self.check(limits)
    }

    #[inline(always)]
    fn check(&self, limits: &Limits) -> Result<(), Violation> {
        let (max, violation) = limit(limits, self.is_name);
        if self.characters > max { Err(violation) } else { Ok(()) }
    }
}

/// The limit of a string, and what breaks it.
#[inline(always)]
fn limit(limits: &Limits, is_name: bool) -> (u64, Violation) {
    if is_name { (limits.name, Violation::NameLength) } else { (limits.string, Violation::StringLength) }
}

/// 64 bytes. With a limit above that, only a string that goes on from the ones before can be too long.
pub struct Lengths {
    pub inside: u64,
    pub quotes: u64,
    pub characters: u64,
    /// Positions in names, from the opening quote on.
    pub names: u64,
}

impl Lengths {
    #[inline(always)]
    pub fn check(&self, limits: &Limits, carry: &mut Carry) -> Result<(), Violation> {
        carry.characters += u64::from((self.characters & below_lowest(self.quotes)).count_ones());
        carry.check(limits)?;
        if self.quotes == 0 {
            return Ok(());
        }
        *carry = Carry::NONE;
        if self.inside >> 63 == 1 {
            let behind_last = !(u64::MAX >> self.quotes.leading_zeros());
            carry.characters = u64::from((self.characters & behind_last).count_ones());
            carry.is_name = self.names >> 63 == 1;
            carry.check(limits)?;
        }
        if has_run_above(self.inside & !self.quotes, limits.least_length()) { self.check_each(limits) } else { Ok(()) }
    }

    /// Every string by itself.
    #[cold]
    fn check_each(&self, limits: &Limits) -> Result<(), Violation> {
        let mut openings = self.quotes & self.inside;
        while openings != 0 {
            let opening = openings & openings.wrapping_neg();
            let above = !(opening | (opening - 1));
            let content = above & below_lowest(self.quotes & above);
            let (max, violation) = limit(limits, self.names & opening != 0);
            if u64::from((self.characters & content).count_ones()) > max {
                return Err(violation);
            }
            openings &= openings - 1;
        }
        Ok(())
    }
}

/// Whether more than `bits` stand in a row.
#[inline(always)]
fn has_run_above(mut mask: u64, bits: u64) -> bool {
    if bits >= 62 {
        // A string and its quotes do not fit.
        return false;
    }
    let (mut run, mut more) = (1, bits);
    while more > 0 && mask != 0 {
        let step = more.min(run);
        mask &= mask >> step;
        more -= step;
        run += step;
    }
    mask != 0
}
