//! Documents against their golden files, and everything that a file on disk may be instead.
