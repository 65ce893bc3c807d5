//! h1/emit
