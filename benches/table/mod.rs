//! The table that `make bench` ends with.

/// Prints one line of it: what was measured, beside what, the ratio of both, and what is aimed at.
pub fn row(what: &str, own: &str, other: &str, ratio: Option<f64>, aim: &str) {
    let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.3}"));
    println!("= {what:<44} {own:>10} {other:>10} {ratio:>7}  {aim}");
}
