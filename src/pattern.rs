//! Regular expressions that are told apart by the words that they require, before any of them is
//! compiled or tried.
//!
//! CloudWatch, too, can drop most uninteresting lines before they are sent, if it is told what
//! every interesting line contains. That is found out from the patterns themselves, so that
//! the coarse filter cannot forget one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::Regex;
use regex_syntax::ast::{
    Ast, ClassBracketed, ClassSet, ClassSetItem, RepetitionKind, RepetitionRange, parse::Parser,
};

/// Texts shorter than this many bytes occur everywhere and would filter nothing.
const MIN_LENGTH: usize = 3;

/// An expression that was checked, and is compiled when it is needed first: of a preset's dozens,
/// a healthy log needs two, and a function that starts should not wait for the others.
pub(crate) struct Expression {
    pattern: String,
    /// Found out from its syntax alone: what else it takes to compile it takes most of the time.
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

    /// Lower-case texts of which at least one occurs, in some case, in every raw line that
    /// matches it once it is cleaned. `None` where it requires no such text.
    ///
    /// A raw line can hold terminal escapes at the edges of words and of punctuation, and cleaned
    /// lines cannot; so a text consists of words with single spaces between them.
    pub fn required(&self) -> Option<&BTreeSet<String>> {
        (self.required)
            .get_or_init(|| required_by(&Parser::new().parse(&self.pattern).ok()?))
            .as_ref()
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

fn required_by(ast: &Ast) -> Option<BTreeSet<String>> {
    let mut search = Search::default();
    search.walk(ast);
    search.finish_run();
    // The best filter is the one whose shortest text is longest; of those, the simplest.
    search.found.into_iter().max_by_key(|texts| {
        let shortest = texts.iter().map(String::len).min().unwrap_or(0);
        (shortest, std::cmp::Reverse(texts.len()))
    })
}

#[derive(Default)]
struct Search {
    /// The text that is required at this place, so far.
    run: String,
    /// Sets of which one text each is required.
    found: Vec<BTreeSet<String>>,
}

impl Search {
    fn walk(&mut self, ast: &Ast) {
        match ast {
            Ast::Empty(_) | Ast::Flags(_) | Ast::Assertion(_) => {}
            Ast::Literal(literal) => self.push(Some(literal.c)),
            Ast::ClassBracketed(class) => self.push(the_letter(class)),
            Ast::Dot(_) | Ast::ClassPerl(_) | Ast::ClassUnicode(_) => self.push(None),
            Ast::Group(group) => self.walk(&group.ast),
            Ast::Concat(concat) => concat.asts.iter().for_each(|part| self.walk(part)),
            Ast::Alternation(alternation) => {
                self.finish_run();
                let each: Option<Vec<_>> = alternation.asts.iter().map(required_by).collect();
                self.found
                    .extend(each.map(|each| each.into_iter().flatten().collect()));
            }
            Ast::Repetition(repetition) => {
                self.finish_run();
                let least = match &repetition.op.kind {
                    RepetitionKind::ZeroOrOne | RepetitionKind::ZeroOrMore => 0,
                    RepetitionKind::OneOrMore => 1,
                    RepetitionKind::Range(range) => match *range {
                        RepetitionRange::Exactly(least)
                        | RepetitionRange::AtLeast(least)
                        | RepetitionRange::Bounded(least, _) => least,
                    },
                };
                if least > 0 {
                    self.found.extend(required_by(&repetition.ast));
                }
            }
        }
    }

    fn push(&mut self, char: Option<char>) {
        match char {
            Some(char) if is_word(char) => self.run.extend(char.to_lowercase()),
            Some(' ') if !self.run.is_empty() && !self.run.ends_with(' ') => self.run.push(' '),
            _ => self.finish_run(),
        }
    }

    fn finish_run(&mut self) {
        let text = std::mem::take(&mut self.run);
        // A space at the end stands next to something that is not a word.
        let text = text.trim_end();
        if text.len() >= MIN_LENGTH {
            self.found.push(BTreeSet::from([text.to_owned()]));
        }
    }
}

/// ASCII words, and letters that have no case (how other letters fold is up to the engine). That `(?i)`
/// takes the long s and the Kelvin sign for cases of s and k is left out: nobody prints them in a log.
fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric()
        || char == '_'
        || (!char.is_ascii()
            && char.is_alphanumeric()
            && !char.is_lowercase()
            && !char.is_uppercase())
}

/// The letter of a class that holds one letter in both its cases, such as `[Ss]`.
fn the_letter(class: &ClassBracketed) -> Option<char> {
    let ClassSet::Item(item) = &class.kind else {
        return None;
    };
    let items = match item {
        ClassSetItem::Union(union) => union.items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut letters = items.iter().map(|item| match item {
        ClassSetItem::Literal(literal) => Some(literal.c.to_ascii_lowercase()),
        _ => None,
    });
    let letter = letters.next()??;
    (!class.negated && letters.all(|other| other == Some(letter))).then_some(letter)
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
