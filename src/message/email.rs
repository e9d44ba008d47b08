//! Plain text for mail and terminals.

use minijinja::value::Serde;
use minijinja::{Environment, Value, context};

use super::view::View;
use super::{safe, words};

/// The most that a mail holds, in bytes: what a phone shows without "load the rest".
const MAX_BYTES: usize = 16 * 1024;

/// The layout, with as much detail as fits.
pub(super) fn render(view: &View) -> String {
    let env = words::environment();
    let text = |detail| lay_out(&env, include_str!("email.j2"), view, detail);
    let fits = [2, 1]
        .into_iter()
        .map(text)
        .find(|text| text.len() <= MAX_BYTES);
    safe::cut(&fits.unwrap_or_else(|| text(0)), MAX_BYTES)
}

/// Fills a layout. Lines without text are at most one in a row.
pub(super) fn lay_out(env: &Environment<'_>, layout: &str, view: &View, detail: u8) -> String {
    let values = context! { detail, ..Value::from(Serde(view)) };
    // A broken layout still tells what, since when, and whether it is handled.
    let text = (env.render_str(layout, values)).unwrap_or_else(|_| {
        let head = &view.head;
        format!("{}\n{}\n{}\n", head.what, head.since, head.handled)
    });
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let line: String = line.chars().filter(|char| !char.is_control()).collect();
        if !(line.is_empty() && (out.is_empty() || out.ends_with("\n\n"))) {
            out.push_str(&line);
            out.push('\n');
        }
    }
    out.trim_end().to_owned() + "\n"
}
