//! h1/parse
