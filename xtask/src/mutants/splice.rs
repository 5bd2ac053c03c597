//! Puts switches into a source: at each fragment the mutant's code, while that mutant lives.

use std::ops::Range;

use super::list::{Edit, Kind, SWITCH};

/// An edit, and the number of the mutant that it belongs to.
pub(crate) type Numbered = (usize, Edit);

/// The source with all edits in it, each behind the switch of its mutant.
pub(crate) fn splice(source: &str, edits: &[Numbered]) -> Result<String, String> {
    let mut places = Vec::new();
    for (number, edit) in edits {
        places.push(Place {
            range: locate(source, edit)?,
            number: *number,
            edit: *edit,
        });
    }
    // Outer ones first: what lies within them comes right behind.
    places.sort_by_key(|place| (place.range.start, usize::MAX - place.range.end));
    render(source, 0..source.len(), &places)
}

/// Where the fragment stands: in one place, or not at all.
pub(crate) fn locate(source: &str, edit: &Edit) -> Result<Range<usize>, String> {
    let (part, start) = if edit.within.is_empty() {
        (source, 0)
    } else {
        let start = once(source, edit.within).map_err(|error| format!("{}: {error}", edit.file))?;
        (edit.within, start)
    };
    let at = once(part, edit.find).map_err(|error| format!("{}: {error}", edit.file))?;
    let start = start + at;
    Ok(start..start + edit.find.len())
}

fn once(text: &str, fragment: &str) -> Result<usize, String> {
    let mut found = text.match_indices(fragment).map(|(at, _)| at);
    match (found.next(), found.next()) {
        (Some(at), None) => Ok(at),
        (None, _) => Err(format!("`{fragment}` is not there")),
        (Some(_), Some(_)) => Err(format!("`{fragment}` is there more than once")),
    }
}

#[derive(Debug)]
struct Place {
    range: Range<usize>,
    number: usize,
    edit: Edit,
}

/// A part of the source, with the edits that lie in it.
fn render(source: &str, part: Range<usize>, mut places: &[Place]) -> Result<String, String> {
    let mut text = String::new();
    let mut at = part.start;
    while let Some(first) = places.first() {
        let range = &first.range;
        if range.start < at || range.end > part.end {
            return Err(format!("`{}` overlaps another fragment", first.edit.find));
        }
        let same = places.partition_point(|place| place.range == *range);
        let inner = places.partition_point(|place| place.range.start < range.end);
        let (here, inside) = places[..inner].split_at(same);
        text.push_str(&source[at..range.start]);
        text.push_str(&switched(here, &render(source, range.clone(), inside)?)?);
        at = range.end;
        places = &places[inner..];
    }
    text.push_str(&source[at..part.end]);
    Ok(text)
}

/// The mutants' code for one fragment, and the fragment itself.
fn switched(here: &[Place], fragment: &str) -> Result<String, String> {
    let kind = here[0].edit.kind;
    if kind == Kind::Text {
        return match here {
            [only] if fragment == only.edit.find => {
                Ok(only.edit.replace.replace(SWITCH, &switch(only.number)))
            }
            _ => Err(format!("`{fragment}` is text, and belongs to one mutant")),
        };
    }
    if here.iter().any(|place| place.edit.kind != kind) {
        return Err(format!("`{fragment}` is of one kind only"));
    }
    let arm = |place: &Place| {
        let code = place.edit.replace;
        format!("if {} {{ {code} }} else ", switch(place.number))
    };
    let arms: String = here.iter().map(arm).collect();
    let text = format!("{arms}{{ {fragment} }}");
    Ok(match kind {
        Kind::Expression => format!("({text})"),
        Kind::Statement | Kind::Text => text,
    })
}

fn switch(number: usize) -> String {
    format!("::coordinator_core::mutant::is({number})")
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn edit(kind: Kind, find: &'static str, replace: &'static str) -> Edit {
        Edit {
            file: "a.rs",
            within: "",
            find,
            replace,
            kind,
        }
    }

    fn spliced(source: &str, edits: &[Numbered]) -> String {
        splice(source, edits).unwrap()
    }

    #[test]
    fn an_expression_is_chosen_by_its_mutant() {
        let edits = [(7, edit(Kind::Expression, "a + b", "a"))];
        assert_eq!(
            spliced("let c = a + b;", &edits),
            "let c = (if ::coordinator_core::mutant::is(7) { a } else { a + b });"
        );
    }

    #[test]
    fn a_text_asks_for_its_switch_itself() {
        let edits = [(7, edit(Kind::Text, "// here", "if MUTANT { return; }"))];
        assert_eq!(
            spliced("// here", &edits),
            "if ::coordinator_core::mutant::is(7) { return; }"
        );
    }

    #[test]
    fn mutants_share_a_fragment_and_lie_within_each_other() {
        let edits = [
            (1, edit(Kind::Expression, "b", "x")),
            (2, edit(Kind::Statement, "a(b);", "y();")),
            (3, edit(Kind::Expression, "b", "z")),
        ];
        assert_eq!(
            spliced("a(b); c", &edits),
            "if ::coordinator_core::mutant::is(2) { y(); } else { a((\
             if ::coordinator_core::mutant::is(1) { x } \
             else if ::coordinator_core::mutant::is(3) { z } else { b })); } c"
        );
    }

    #[test]
    fn a_fragment_is_looked_for_in_its_surroundings() {
        let edit = Edit {
            within: "second(b)",
            ..edit(Kind::Expression, "b", "x")
        };
        assert_eq!(locate("first(b) second(b)", &edit), Ok(16..17));
    }

    #[test]
    fn a_fragment_that_is_gone_ambiguous_or_cut_in_two_is_refused() {
        let gone = splice("a", &[(1, edit(Kind::Expression, "b", "x"))]);
        assert_eq!(gone, Err("a.rs: `b` is not there".to_owned()));
        let twice = splice("b b", &[(1, edit(Kind::Expression, "b", "x"))]);
        assert_eq!(twice, Err("a.rs: `b` is there more than once".to_owned()));
        let overlapping = [
            (1, edit(Kind::Expression, "a b", "x")),
            (2, edit(Kind::Expression, "b c", "x")),
        ];
        assert!(splice("a b c", &overlapping).is_err());
    }
}
