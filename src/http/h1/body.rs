//! h1/body
