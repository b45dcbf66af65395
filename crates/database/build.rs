//! Rebuilds this crate when a migration is added; `sqlx::migrate!` alone sees changed files only.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
