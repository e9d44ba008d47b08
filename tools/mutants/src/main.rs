//! Weaves mutants into a source tree: all of them in one build, each behind a switch.
//!
//! `weave LIST TREE` reads what `cargo mutants --list --json` prints, and changes the files below
//! TREE, which is a copy. Every mutant becomes a branch, `if crate::mutant(7) { … } else { … }`,
//! and the environment says which one is on. So a mutant costs a run of the tests that reach it,
//! and no build.
//!
//! Each branch stands between `/*[7*/` and `/*7]*/`, each place that was changed between `/*{7,8*/` and
//! `/*7,8}*/`: where the compiler refuses one, these tell which. What cannot be woven is printed,
//! one number a line.

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Range;
use std::path::Path;

use proc_macro2::LineColumn;
use serde::Deserialize;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A mutant, as cargo-mutants lists it.
#[derive(Deserialize)]
struct Mutant {
    file: String,
    genre: String,
    replacement: String,
    span: Span,
}

/// Lines and columns count from 1.
#[derive(Deserialize)]
struct Span {
    start: Place,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    line: usize,
    column: usize,
}

impl From<LineColumn> for Place {
    fn from(at: LineColumn) -> Self {
        Self {
            line: at.line,
            column: at.column + 1,
        }
    }
}

/// A mutant's number, which is its place in the list, and what takes the original's place.
type Choice = (usize, String);

/// A place in a file that mutants change.
struct Site {
    at: Range<usize>,
    kind: Kind,
}

enum Kind {
    /// Left, operator, right.
    Binary(Range<usize>, Range<usize>, Range<usize>, Vec<Choice>),
    /// The operand, of which the operator is taken away.
    Unary(Range<usize>, Vec<Choice>),
    /// The beginning of a body: return something else.
    Body(Vec<Choice>),
    /// A guard that is replaced, or the end of the pattern of an arm that is deleted.
    Guard(Option<Range<usize>>, Vec<Choice>, Option<usize>),
    /// A field's value, the struct's path and what its other fields are taken from.
    Field(
        Range<usize>,
        Range<usize>,
        Range<usize>,
        String,
        usize,
    ),
}

/// Finds the places in one file.
struct Finder<'a> {
    mutants: BTreeMap<(&'a str, Place), Vec<Choice>>,
    /// Arms of matches that another one can stand in for.
    can_go: Vec<Place>,
    sites: Vec<Site>,
}

impl Finder<'_> {
    fn take(&mut self, genre: &'static str, at: proc_macro2::Span) -> Vec<Choice> {
        let key = (genre, Place::from(at.start()));
        self.mutants.remove(&key).unwrap_or_default()
    }

    /// A function whose type is its body's (`-> impl Iterator`) can return nothing else.
    fn body(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let is_its_own = matches!(
            &signature.output,
            syn::ReturnType::Type(_, of) if matches!(**of, syn::Type::ImplTrait(_))
        );
        if is_its_own || signature.constness.is_some() {
            return;
        }
        let Some(first) = block.stmts.first() else {
            return;
        };
        let choices = self.take("FnValue", first.span());
        if !choices.is_empty() {
            let at = first.span().byte_range().start;
            self.sites.push(Site {
                at: at..at,
                kind: Kind::Body(choices),
            });
        }
    }
}

/// Whether a chain of conditions binds something: it can stand in a condition only.
fn binds(expr: &syn::Expr) -> bool {
    match expr {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(binary) => binds(&binary.left) || binds(&binary.right),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.body(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.body(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_expr_binary(&mut self, expr: &'ast syn::ExprBinary) {
        let can_move = !binds(&expr.left) && !binds(&expr.right);
        let choices = if can_move {
            self.take("BinaryOperator", expr.op.span())
        } else {
            Vec::new()
        };
        if !choices.is_empty() {
            self.sites.push(Site {
                at: expr.span().byte_range(),
                kind: Kind::Binary(
                    expr.left.span().byte_range(),
                    expr.op.span().byte_range(),
                    expr.right.span().byte_range(),
                    choices,
                ),
            });
        }
        visit::visit_expr_binary(self, expr);
    }

    fn visit_expr_unary(&mut self, expr: &'ast syn::ExprUnary) {
        let choices = self.take("UnaryOperator", expr.op.span());
        if !choices.is_empty() {
            self.sites.push(Site {
                at: expr.span().byte_range(),
                kind: Kind::Unary(expr.expr.span().byte_range(), choices),
            });
        }
        visit::visit_expr_unary(self, expr);
    }

    fn visit_expr_match(&mut self, expr: &'ast syn::ExprMatch) {
        // Without another arm that takes everything, an arm cannot go.
        let takes_all = |arm: &syn::Arm| match &arm.pat {
            syn::Pat::Wild(_) => arm.guard.is_none(),
            // `None` is no binding.
            syn::Pat::Ident(name) => {
                arm.guard.is_none() && !name.ident.to_string().starts_with(char::is_uppercase)
            }
            _ => false,
        };
        let has_other = |arm: &syn::Arm| {
            (expr.arms.iter()).any(|other| takes_all(other) && !std::ptr::eq(other, arm))
        };
        let can_go = expr.arms.iter().filter(|arm| has_other(arm));
        self.can_go.extend(can_go.map(|arm| Place::from(arm.span().start())));
        visit::visit_expr_match(self, expr);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        let can_go = self.can_go.contains(&Place::from(arm.span().start()));
        let deleted = can_go.then(|| self.take("MatchArm", arm.span()));
        let deleted = deleted.and_then(|choices| Some(choices.first()?.0));
        let guard = arm.guard.as_ref().map(|(_, guard)| guard.span());
        let choices = guard.map_or_else(Vec::new, |span| self.take("MatchArmGuard", span));
        if deleted.is_some() || !choices.is_empty() {
            let end = arm.pat.span().byte_range().end;
            let guard = guard.map(|span| span.byte_range());
            self.sites.push(Site {
                at: guard.clone().unwrap_or(end..end),
                kind: Kind::Guard(guard, choices, deleted),
            });
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_struct(&mut self, expr: &'ast syn::ExprStruct) {
        for field in &expr.fields {
            let Some((number, _)) = self.take("StructField", field.span()).pop() else {
                continue;
            };
            if let (Some(rest), syn::Member::Named(name)) = (&expr.rest, &field.member) {
                self.sites.push(Site {
                    at: field.span().byte_range(),
                    kind: Kind::Field(
                        field.expr.span().byte_range(),
                        expr.path.span().byte_range(),
                        rest.span().byte_range(),
                        name.to_string(),
                        number,
                    ),
                });
            }
        }
        visit::visit_expr_struct(self, expr);
    }
}

/// The text of a file with all mutants in it.
struct Woven<'a> {
    text: &'a str,
    /// The outer ones before the inner ones.
    sites: &'a [Site],
}

impl Woven<'_> {
    /// The text of a range, with the places from `next` on that lie in it.
    fn render(&self, range: Range<usize>, mut next: usize) -> String {
        let mut out = String::new();
        let mut done = range.start;
        while let Some(site) = self.sites.get(next) {
            let inside = site.at.start >= done && site.at.end <= range.end;
            if inside {
                out.push_str(&self.text[done..site.at.start]);
                out.push_str(&self.site(site, next + 1));
                done = site.at.end;
            }
            next += 1;
        }
        out + &self.text[done..range.end]
    }

    fn site(&self, site: &Site, next: usize) -> String {
        let of = |range: &Range<usize>| self.render(range.clone(), next);
        let switch = |number: usize, then: &str| {
            format!("if crate::mutant({number}) {{ /*[{number}*/{then}/*{number}]*/ }} else ")
        };
        let marked = |numbers: Vec<usize>, text: String| {
            let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            let numbers = numbers.join(",");
            format!("/*{{{numbers}*/{text}/*{numbers}}}*/")
        };
        let numbers = |choices: &[Choice]| choices.iter().map(|(number, _)| *number).collect();
        match &site.kind {
            Kind::Binary(left, operator, right, choices) => {
                let (left, right) = (of(left), of(right));
                let branches: String = (choices.iter())
                    .map(|(number, other)| switch(*number, &format!("{left} {other} {right}")))
                    .collect();
                let operator = &self.text[operator.clone()];
                let whole = format!("({branches}{{ {left} {operator} {right} }})");
                marked(numbers(choices), whole)
            }
            Kind::Unary(operand, choices) => {
                let bare = of(operand);
                let whole = &self.text[site.at.start..operand.start];
                let branches: String = (choices.iter())
                    .map(|(number, _)| switch(*number, &bare))
                    .collect();
                marked(numbers(choices), format!("({branches}{{ {whole}{bare} }})"))
            }
            Kind::Body(choices) => {
                let branches: String = (choices.iter())
                    .map(|(n, value)| {
                        format!("if crate::mutant({n}) {{ /*[{n}*/return {value};/*{n}]*/ }} ")
                    })
                    .collect();
                marked(numbers(choices), branches)
            }
            Kind::Guard(guard, choices, deleted) => {
                let mut condition = guard.as_ref().map(of);
                for (number, value) in choices {
                    let on = format!("crate::mutant({number})");
                    condition = condition.map(|condition| match value.as_str() {
                        "true" => format!("({on} || ({condition}))"),
                        _ => format!("(!{on} && ({condition}))"),
                    });
                }
                if let Some(number) = deleted {
                    let off = format!("!crate::mutant({number})");
                    condition = Some(match condition {
                        Some(condition) => format!("({off} && {condition})"),
                        None => format!(" if {off}"),
                    });
                }
                let mut all: Vec<usize> = numbers(choices);
                all.extend(deleted);
                marked(all, condition.unwrap_or_default())
            }
            Kind::Field(value, path, rest, name, number) => {
                let (value, rest) = (of(value), &self.text[rest.clone()]);
                let path = &self.text[path.clone()];
                let other = format!("let other: {path} = {rest}; other.{name}");
                let field = format!("{name}: {}{{ {value} }}", switch(*number, &other));
                marked(vec![*number], field)
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(list), Some(tree)) = (arguments.next(), arguments.next()) else {
        return Err("usage: weave LIST TREE [NUMBER…]  (those numbers are left out)".into());
    };
    let left_out: Vec<usize> = arguments.map(|n| n.parse()).collect::<Result<_, _>>()?;
    let mutants: Vec<Mutant> = serde_json::from_str(&std::fs::read_to_string(list)?)?;
    let mut files: BTreeMap<&str, BTreeMap<(&str, Place), Vec<Choice>>> = BTreeMap::new();
    for (number, mutant) in mutants.iter().enumerate() {
        if !left_out.contains(&number) {
            files
                .entry(&mutant.file)
                .or_default()
                .entry((&mutant.genre, mutant.span.start))
                .or_default()
                .push((number, mutant.replacement.clone()));
        }
    }
    for (file, mutants) in files {
        let path = Path::new(&tree).join(file);
        let text = std::fs::read_to_string(&path)?;
        let mut finder = Finder {
            mutants,
            can_go: Vec::new(),
            sites: Vec::new(),
        };
        finder.visit_file(&syn::parse_file(&text)?);
        for (number, _) in finder.mutants.values().flatten() {
            println!("{number}");
        }
        let mut sites = finder.sites;
        // The beginning of a body comes before its first expression, an outer place before an inner.
        sites.sort_by_key(|site| {
            let is_wide = !site.at.is_empty();
            (site.at.start, is_wide, std::cmp::Reverse(site.at.end))
        });
        let woven = Woven {
            text: &text,
            sites: &sites,
        };
        std::fs::write(&path, woven.render(0..text.len(), 0))?;
    }
    Ok(())
}
