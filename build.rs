//! The data files below `src/` as JSON, so that the function carries no reader of TOML for them.
//!
//! `src/causes/ecs.toml` becomes `causes/ecs.json` below `OUT_DIR`, without its examples, and
//! `tests/causes/ecs.json` with them; the macro `data!` of the library finds both. And what the expressions
//! of the presets require, as `required.rs`.

#[path = "src/pattern/required.rs"]
mod required;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, error, fs, io};

use serde_json::Value;
use toml::Value as Toml;

/// Where they stand below `src/`.
const FOLDERS: [&str; 5] = ["causes", "cost", "message", "presets", "presets/part"];

/// Those that hold regular expressions, and under which keys.
const PRESETS: &str = "presets";
const EXPRESSIONS: [&str; 2] = ["pattern", "end"];

/// What only the tests look at.
const EXAMPLES: &str = "examples";

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script by its environment where to write"
)]
fn main() -> Result<(), Box<dyn error::Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    let mut required = Required::new();
    for folder in FOLDERS {
        let source = Path::new("src").join(folder);
        // Of a folder, cargo looks at all that is in it.
        println!("cargo::rerun-if-changed={}", source.display());
        for entry in fs::read_dir(&source)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let read = fs::read_to_string(&path)?.parse::<toml::Table>();
            let table = read.map_err(|error| format!("{}: {error}", path.display()))?;
            let name = Path::new(folder).join(path.file_name().unwrap_or_default());
            let whole = json(Toml::Table(table));
            write(&out.join("tests").join(&name), &whole)?;
            let used = without_examples(whole);
            if folder.starts_with(PRESETS) {
                find_required(&used, &mut required);
            }
            write(&out.join(&name), &used)?;
        }
    }
    let entries: Vec<String> = (required.iter())
        .map(|(expression, texts)| match texts {
            Some(texts) => format!("({expression:?}, Some(&{:?}))", Vec::from_iter(texts)),
            None => format!("({expression:?}, None)"),
        })
        .collect();
    fs::write(
        out.join("required.rs"),
        format!("&[{}]", entries.join(",\n")),
    )?;
    Ok(())
}

/// By expression, the texts of which it requires one.
type Required = BTreeMap<String, Option<BTreeSet<String>>>;

fn write(path: &Path, value: &Value) -> io::Result<()> {
    let path = path.with_extension("json");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, value.to_string())
}

/// Dates become strings; numbers that JSON does not have become nothing.
fn json(value: Toml) -> Value {
    match value {
        Toml::String(text) => text.into(),
        Toml::Integer(number) => number.into(),
        Toml::Float(number) => number.into(),
        Toml::Boolean(truth) => truth.into(),
        Toml::Datetime(at) => at.to_string().into(),
        Toml::Array(values) => values.into_iter().map(json).collect(),
        Toml::Table(table) => (table.into_iter())
            .map(|(key, value)| (key, json(value)))
            .collect(),
    }
}

fn without_examples(value: Value) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(without_examples).collect(),
        Value::Object(fields) => (fields.into_iter())
            .filter(|(key, _)| key != EXAMPLES)
            .map(|(key, value)| (key, without_examples(value)))
            .collect(),
        other => other,
    }
}

fn find_required(value: &Value, found: &mut Required) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| find_required(value, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                if let Value::String(expression) = value
                    && EXPRESSIONS.contains(&key.as_str())
                {
                    found.insert(expression.clone(), required::texts(expression));
                }
                find_required(value, found);
            }
        }
        _ => {}
    }
}
