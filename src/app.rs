//! Start, run, drain: the only file that knows everyone.
