//! End-to-end tests of the whole fleet; the code is in `it/`.
