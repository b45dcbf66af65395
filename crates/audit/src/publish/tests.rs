//! Publishing against drivers that are slow, fail, or drop the answer.
