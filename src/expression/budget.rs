//! How much one evaluation may do and make. A hostile header pays from it and runs out.

use super::{EvaluationError, Fault, tree::At};

/// Steps of one evaluation: each node, each item looked at, each 64 bytes of a string read. Some milliseconds at worst.
pub const STEPS_MAX: u32 = 200_000;
/// Bytes of new strings and lists in one evaluation: a payload of 1 MiB with words around it fits.
pub const OUTPUT_BYTES_MAX: usize = 2 << 20;

/// What is left.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    steps: u32,
    output_bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: STEPS_MAX, output_bytes: OUTPUT_BYTES_MAX }
    }
}

impl Budget {
    /// Smaller limits than the default.
    pub fn new(steps: u32, output_bytes: usize) -> Self {
        Self { steps: steps.min(STEPS_MAX), output_bytes: output_bytes.min(OUTPUT_BYTES_MAX) }
    }

    pub fn steps_left(&self) -> u32 {
        self.steps
    }

    pub fn output_bytes_left(&self) -> usize {
        self.output_bytes
    }

    pub(super) fn step(&mut self, at: At) -> Result<(), EvaluationError> {
        self.steps = self.steps.checked_sub(1).ok_or(EvaluationError::new(at, Fault::Steps))?;
        Ok(())
    }

    /// Before reading so many bytes.
    pub(super) fn read(&mut self, at: At, bytes: usize) -> Result<(), EvaluationError> {
        let steps = u32::try_from(1 + bytes / 64).unwrap_or(u32::MAX);
        self.steps = self.steps.checked_sub(steps).ok_or(EvaluationError::new(at, Fault::Steps))?;
        Ok(())
    }

    /// Before making so many bytes.
    pub(super) fn make(&mut self, at: At, bytes: usize) -> Result<(), EvaluationError> {
        self.read(at, bytes)?;
        self.output_bytes = self.output_bytes.checked_sub(bytes).ok_or(EvaluationError::new(at, Fault::Output))?;
        Ok(())
    }
}
