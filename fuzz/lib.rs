//! Fuzz targets: what arrives from outside, changed at random, never panics and never contradicts itself. All of
//! it is in `it/`, the inputs that everything starts from in `corpus/`.
