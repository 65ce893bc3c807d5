//! One bit for each of 64 bytes, the first one lowest: what is true of a byte stands in its bit.
//!
//! To ask something of all of them is then an operation or two. What the 64 before have left is passed as a carry.

/// The positions `N` behind those of `mask`; `before` is the mask of the 64 before.
#[inline(always)]
pub fn behind<const N: u32>(mask: u64, before: u64) -> u64 {
    mask << N | before >> (64 - N)
}

/// Each of these positions moved on to the end of the run of `over` in which it stands, if it stands in one: adding makes a one
/// walk through a run of ones. 1 where a run does not end; then it does in the next 64, whose `carry` that is.
#[inline(always)]
pub fn skip(starts: u64, over: u64, carry: u64) -> (u64, u64) {
    let (sum, goes_on) = (starts | carry).overflowing_add(over);
    (sum & !over, u64::from(goes_on))
}

/// The runs of `over` from these positions on, in the same way.
#[inline(always)]
pub fn runs(starts: u64, over: u64, carry: u64) -> (u64, u64) {
    let (sum, goes_on) = (starts | carry).overflowing_add(over);
    (over & !sum, u64::from(goes_on))
}

/// Bit n: whether an odd number of bits stands at n or below.
#[inline(always)]
pub fn parity(mut mask: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        mask ^= mask << shift;
    }
    mask
}

/// The bits below the lowest one; all, where there is none.
#[inline(always)]
pub fn below_lowest(mask: u64) -> u64 {
    !mask & mask.wrapping_sub(1)
}
