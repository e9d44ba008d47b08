//! The words that a regular expression requires, found out from its syntax alone: to compile it takes much
//! longer. The build script uses this file, too.

use std::collections::BTreeSet;

use regex_syntax::ast::{
    Ast, ClassBracketed, ClassSet, ClassSetItem, RepetitionKind, RepetitionRange, parse::Parser,
};

/// Texts shorter than this many bytes occur everywhere and would filter nothing.
const MIN_LENGTH: usize = 3;

/// Lower-case texts of which at least one occurs, in some case, in every text that matches an expression: words
/// with single spaces between them. `None` where it requires no such text, or is no expression.
pub(crate) fn texts(expression: &str) -> Option<BTreeSet<String>> {
    required_by(&Parser::new().parse(expression).ok()?)
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
