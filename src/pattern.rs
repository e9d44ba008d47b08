//! Regular expressions that are told apart by the words that they require, before any of them is
//! compiled or tried.
//!
//! CloudWatch, too, can drop most uninteresting lines before they are sent, if it is told what
//! every interesting line contains. That is found out from the patterns themselves, so that
//! the coarse filter cannot forget one.

mod required;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::Regex;

/// What the expressions of the preset files require, in their order: it is found out when the program is
/// built, because that would be a sixth of what a start and its first pass compute.
static BUILT_IN: &[(&str, Option<&[&str]>)] = include!(concat!(env!("OUT_DIR"), "/required.rs"));

/// An expression that was checked, and is compiled when it is needed first: of a preset's dozens,
/// a healthy log needs two, and a function that starts should not wait for the others.
pub(crate) struct Expression {
    pattern: String,
    required: OnceLock<Option<BTreeSet<String>>>,
    compiled: OnceLock<Regex>,
}

impl Expression {
    pub fn new(pattern: &str) -> Expression {
        Expression {
            pattern: pattern.to_owned(),
            required: OnceLock::new(),
            compiled: OnceLock::new(),
        }
    }

    /// As it was written.
    #[cfg(test)]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// What it requires, if it is an expression of the preset files.
    pub fn built_in(&self) -> Option<Option<&'static [&'static str]>> {
        let at = BUILT_IN.binary_search_by_key(&self.pattern.as_str(), |(known, _)| known);
        at.ok().map(|at| BUILT_IN[at].1)
    }

    /// Lower-case texts of which at least one occurs, in some case, in every raw line that
    /// matches it once it is cleaned. `None` where it requires no such text.
    ///
    /// A raw line can hold terminal escapes at the edges of words and of punctuation, and cleaned
    /// lines cannot; so a text consists of words with single spaces between them.
    pub fn required(&self) -> Option<&BTreeSet<String>> {
        let find = || match self.built_in() {
            Some(texts) => texts.map(|texts| texts.iter().map(|&text| text.to_owned()).collect()),
            None => required::texts(&self.pattern),
        };
        self.required.get_or_init(find).as_ref()
    }

    #[expect(
        clippy::expect_used,
        reason = "a user's was compiled when it was checked, and the program's own by a test"
    )]
    pub fn regex(&self) -> &Regex {
        (self.compiled).get_or_init(|| Regex::new(&self.pattern).expect("the pattern is valid"))
    }
}

/// Tells which of several patterns a text can match at all, by the words that they require.
pub(crate) struct Index {
    /// None, if no pattern requires a word.
    words: Option<AhoCorasick>,
    /// The patterns that require each word, or one of several.
    owners: Vec<Vec<usize>>,
    /// For each pattern, whether it requires none.
    always: Vec<bool>,
}

impl Index {
    pub fn new<'e>(expressions: impl Iterator<Item = &'e Expression>) -> Index {
        let mut by_word: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut always = Vec::new();
        for (pattern, required) in expressions.map(Expression::required).enumerate() {
            always.push(required.is_none());
            for word in required.into_iter().flatten() {
                by_word.entry(word).or_default().push(pattern);
            }
        }
        // Takes a quarter of the time that the faster automaton takes to build: most who start read few lines.
        let words = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .ascii_case_insensitive(true)
            .build(by_word.keys())
            .ok();
        match words {
            Some(words) => Index {
                words: Some(words),
                owners: by_word.into_values().collect(),
                always,
            },
            // More words than an automaton can hold: then every pattern is tried.
            None => Index {
                words: None,
                owners: Vec::new(),
                always: vec![true; always.len()],
            },
        }
    }

    /// For each pattern, whether a text can match it.
    pub fn possible(&self, text: &str) -> Vec<bool> {
        let mut possible = self.always.clone();
        let words = (self.words.iter()).flat_map(|words| words.find_overlapping_iter(text));
        for pattern in words.flat_map(|word| &self.owners[word.pattern().as_usize()]) {
            possible[*pattern] = true;
        }
        possible
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_texts() {
        for (pattern, expected) in [
            (
                "No scheduled commands are ready to run",
                "no scheduled commands are ready to run",
            ),
            (
                r"^\s*Running scheduled command: (?<job>.+)$",
                "running scheduled command",
            ),
            (r"^[0-9]{4} Running \[(?<job>.+)\] .* DONE$", "running"),
            ("(?i)tasks skipped", "tasks skipped"),
            ("Execution #[0-9]+ output", "execution"),
            ("foo|barbar", "barbar or foo"),
            ("x(?:foo|barbar)*yyyy", "yyyy"),
            ("(?:abc)+", "abc"),
            ("a+b?c*", ""),
            ("foo|[0-9]+", ""),
            ("ab", ""),
            (".*", ""),
            ("スケジューラ開始", "スケジューラ開始"),
            ("äöü-straße", "stra"),
            (r"\[ERROR\] Scheduler", "scheduler"),
            ("x{3,5}abc", "abc"),
            ("[a-z]abc", "abc"),
            ("[Ss]chedule[r]", "scheduler"),
            ("x[^a]bcd", "bcd"),
            ("(?x) ab c # def", "abc"),
            ("(?:abc){0,3}", ""),
            ("ab(?i:C)(?<d>d)", "abcd"),
            ("foo1|foo22", "foo1 or foo22"),
        ] {
            let expression = Expression::new(pattern);
            let found: Vec<&str> = (expression.required().into_iter().flatten())
                .map(String::as_str)
                .collect();
            assert_eq!(found.join(" or "), expected, "{pattern}");
        }
    }
}
