//! The data files of this crate: TOML below `src/`, which `build.rs` makes JSON of.

use serde::de::DeserializeOwned;

/// Reads a data file by its path below `src/`, without the ending: `data!("causes/ecs")`. Only the
/// unit tests see the examples in it.
macro_rules! data {
    ($path:literal) => {{
        #[cfg(test)]
        let text = include_str!(concat!(env!("OUT_DIR"), "/tests/", $path, ".json"));
        #[cfg(not(test))]
        let text = include_str!(concat!(env!("OUT_DIR"), "/", $path, ".json"));
        $crate::data::read($path, text)
    }};
}
pub(crate) use data;

/// What [`data!`] does.
#[expect(clippy::panic, reason = "the tests read all files")]
pub(crate) fn read<T: DeserializeOwned>(path: &str, text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("src/{path}.toml: {error}"))
}
