//! What `make test` hands to the end-to-end tests.

use std::io::Write as _;
use std::path::PathBuf;

/// The tools and the packed function, by the variables that name them.
pub struct Tools {
    /// `E2E_ARCH`: the architecture of the function, as the template calls it.
    pub arch: String,
    /// `E2E_SAM`: the SAM CLI.
    pub sam: PathBuf,
    /// `E2E_TEMPLATE`: the template that `sam build` wrote.
    pub template: PathBuf,
    /// `E2E_BOOTSTRAP`: the function's executable.
    pub bootstrap: PathBuf,
    /// `E2E_EMULATOR_PYTHON`: the Python that has the emulator.
    pub emulator_python: PathBuf,
    /// `E2E_EMULATOR`: the emulator's launcher.
    pub emulator: PathBuf,
    /// `E2E_RIE`: AWS's runtime interface emulator.
    pub rie: PathBuf,
}

impl Tools {
    /// The tools for a test. None if no variable is set at all: then the test is left out, and
    /// a line on stderr says so.
    ///
    /// # Panics
    /// Only some of the variables are set: a mistake that must not pass for a green run.
    pub fn find(test: &str) -> Option<Self> {
        let names = [
            "E2E_ARCH",
            "E2E_SAM",
            "E2E_TEMPLATE",
            "E2E_BOOTSTRAP",
            "E2E_EMULATOR_PYTHON",
            "E2E_EMULATOR",
            "E2E_RIE",
        ];
        let values = names.map(variable);
        let missing: Vec<&str> = (names.iter().zip(&values))
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| *name)
            .collect();
        if missing.len() == names.len() {
            // Not `eprintln!`, which the test harness swallows.
            let _ = writeln!(std::io::stderr(), "{test}: left out, `make test` runs it");
            return None;
        }
        assert!(missing.is_empty(), "not set: {}", missing.join(", "));
        let [arch, sam, template, bootstrap, python, emulator, rie] =
            values.map(Option::unwrap_or_default);
        Some(Self {
            arch,
            sam: sam.into(),
            template: template.into(),
            bootstrap: bootstrap.into(),
            emulator_python: python.into(),
            emulator: emulator.into(),
            rie: rie.into(),
        })
    }
}

/// `E2E_CHROMIUM`: a Chromium; see [`one`].
pub fn chromium(test: &str) -> Option<PathBuf> {
    one("E2E_CHROMIUM", test)
}

/// `E2E_EXAMPLES`: the directory of the programs that the examples are run and checked with; see
/// [`one`].
pub fn examples(test: &str) -> Option<PathBuf> {
    one("E2E_EXAMPLES", test)
}

/// The path in one variable. None if no variable is set at all: then the test is left out, and a
/// line on stderr says so.
///
/// # Panics
/// Only the others are set: a mistake that must not pass for a green run.
fn one(name: &str, test: &str) -> Option<PathBuf> {
    let found = variable(name).map(PathBuf::from);
    assert!(
        found.is_some() || variable("E2E_BOOTSTRAP").is_none(),
        "not set: {name}"
    );
    if found.is_none() {
        let _ = writeln!(std::io::stderr(), "{test}: left out, `make test` runs it");
    }
    found
}

/// `E2E_FAULTS=all`: every call of a pass goes wrong, and not one of each kind.
pub fn all_faults() -> bool {
    variable("E2E_FAULTS").is_some_and(|faults| faults == "all")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the tests' own variables, which the product does not know"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
