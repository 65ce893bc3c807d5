//! How many entries an object has, and elements an array. A comma announces the next one.

use super::{limits::Limits, scanner::Violation, tokens::Marks};

/// Of the containers that are open.
#[derive(Clone, Debug)]
pub struct Members {
    /// Of the innermost.
    count: u32,
    /// Of those around it, the innermost last: as many as there are levels.
    around: Vec<u32>,
}

impl Members {
    pub const NONE: Self = Self { count: 0, around: Vec::new() };

    /// Counts what a block brings, in the order in which it stands there. `object`: the positions in objects.
    #[inline(always)]
    pub fn count(&mut self, limits: &Limits, marks: &Marks, object: u64) -> Result<(), Violation> {
        let mut commas = marks.comma;
        let mut brackets = marks.open | marks.close;
        while brackets != 0 {
            let bracket = brackets & brackets.wrapping_neg();
            self.add(limits, commas & (bracket - 1), object & bracket != 0)?;
            commas &= !(bracket - 1);
            if marks.close & bracket == 0 {
                self.around.push(self.count);
                self.count = 1;
            } else {
                self.count = self.around.pop().unwrap_or(0);
            }
            brackets &= brackets - 1;
        }
        self.add(limits, commas, object >> 63 == 1)
    }

    #[inline(always)]
    fn add(&mut self, limits: &Limits, commas: u64, is_object: bool) -> Result<(), Violation> {
        if commas == 0 {
            return Ok(());
        }
        self.count = self.count.saturating_add(commas.count_ones());
        if is_object && self.count > limits.entries {
            Err(Violation::EntryCount)
        } else if !is_object && self.count > limits.elements {
            Err(Violation::ElementCount)
        } else {
            Ok(())
        }
    }
}

/// A first member is announced by no comma: it breaks the limit of nought.
#[inline(always)]
pub fn check_first(limits: &Limits, first_members: u64, object: u64) -> Result<(), Violation> {
    if limits.entries == 0 && first_members & object != 0 {
        return Err(Violation::EntryCount);
    }
    if limits.elements == 0 && first_members & !object != 0 {
        return Err(Violation::ElementCount);
    }
    Ok(())
}
