//! The form of a rule's id: `C-133`, `D-007`, `K-064b`.

/// Says what is wrong with an id, if anything is.
pub(crate) fn check(id: &str) -> Result<(), String> {
    let well_formed = match id.as_bytes() {
        [b'C' | b'D' | b'K', b'-', number @ ..] => match number {
            [a, b, c] => [a, b, c].iter().all(|digit| digit.is_ascii_digit()),
            [a, b, c, suffix] => [a, b, c].iter().all(|digit| digit.is_ascii_digit()) && suffix.is_ascii_lowercase(),
            _ => false,
        },
        _ => false,
    };
    if well_formed {
        Ok(())
    } else {
        Err(format!("{id:?} is no rule: C-, D- or K-, three digits, and at most one small letter"))
    }
}
