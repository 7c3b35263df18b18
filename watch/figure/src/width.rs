//! How wide a text will be, without the font that will draw it.
//!
//! A figure names several fonts, and the reader's machine has one of them. The table holds for each character
//! the widest of DejaVu Sans, Arial and Helvetica, in thousandths of the size; so a text is never wider than
//! was reckoned with.

/// Widths of the characters from space to tilde.
#[rustfmt::skip]
const REGULAR: [u16; 95] = [
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, // space to /
    636, 636, 636, 636, 636, 636, 636, 636, 636, 636, 337, 337, 838, 838, 838, 556, // 0 to ?
    1015, 684, 686, 722, 770, 667, 611, 778, 752, 295, 500, 667, 557, 863, 748, 787, // @ to O
    667, 787, 722, 667, 611, 732, 684, 989, 685, 667, 685, 390, 337, 390, 838, 556, // P to _
    500, 613, 635, 550, 635, 615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612, // ` to o
    635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636, 337, 636, 838, // p to ~
];

/// The same for bold letters.
#[rustfmt::skip]
const BOLD: [u16; 95] = [
    348, 456, 521, 838, 696, 1002, 872, 306, 457, 457, 523, 838, 380, 415, 380, 365,
    696, 696, 696, 696, 696, 696, 696, 696, 696, 696, 400, 400, 838, 838, 838, 611,
    1000, 774, 762, 734, 830, 683, 683, 821, 837, 372, 556, 775, 637, 995, 837, 850,
    733, 850, 770, 720, 682, 812, 774, 1103, 771, 724, 725, 457, 365, 457, 838, 556,
    500, 675, 716, 593, 716, 678, 435, 716, 712, 343, 343, 665, 343, 1042, 712, 687,
    716, 716, 493, 595, 478, 712, 652, 924, 645, 652, 582, 712, 365, 712, 838,
];

/// Width of a character that is not in the table: a wide one.
const OTHER: u16 = 1050;

/// The width of `text` in pixels at a font size.
pub fn width(text: &str, size: f64, bold: bool) -> f64 {
    let table = if bold { &BOLD } else { &REGULAR };
    let units: u64 = text.chars().map(|character| u64::from(of(character, table))).sum();
    units as f64 * size / 1000.0
}

fn of(character: char, table: &[u16; 95]) -> u16 {
    let character = if character == '\u{A0}' { ' ' } else { character };
    let index = (character as u32).wrapping_sub(' ' as u32) as usize;
    table.get(index).copied().unwrap_or(OTHER)
}

/// Breaks a text into lines no wider than `room` pixels, at spaces where it can; what does not fit into
/// `lines_max` lines ends in an ellipsis.
pub fn wrap(text: &str, room: f64, size: f64, bold: bool, lines_max: usize) -> Vec<String> {
    let fits = |line: &str| width(line, size, bold) <= room;
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let longer = if line.is_empty() { word.to_string() } else { format!("{line} {word}") };
        if fits(&longer) {
            line = longer;
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for character in word.chars() {
            line.push(character);
            if !fits(&line) && line.chars().count() > 1 {
                let rest = line.split_off(break_in(&line));
                lines.push(std::mem::replace(&mut line, rest));
            }
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    if lines.len() > lines_max {
        lines.truncate(lines_max);
        if let Some(last) = lines.last_mut() {
            while !fits(&format!("{last}…")) && last.pop().is_some() {}
            last.push('…');
        }
    }
    lines
}

/// Where to break a word that just became too long: behind a mark in its second half, or before its last letter.
fn break_in(word: &str) -> usize {
    let last = word.char_indices().next_back().map_or(0, |(index, _)| index);
    let marks = word[..last].char_indices().rev().take_while(|&(index, _)| index >= last / 2);
    let mark = marks.into_iter().find(|(_, character)| "_-.:/\\".contains(*character));
    mark.map_or(last, |(index, mark)| index + mark.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bold_is_never_narrower() {
        assert!((0..95).filter(|&index| index != 32).all(|index| BOLD[index] >= REGULAR[index]));
    }

    #[test]
    fn lines_keep_within_their_room() {
        let text = "TDI_ASSOCIATE_ADDRESS, endpoint #1, with address #1 and_a_word_that_is_far_too_long_for_any_line_of_this_room";
        let lines = wrap(text, 120.0, 12.0, false, 100);
        assert!(lines.iter().all(|line| width(line, 12.0, false) <= 120.0), "{lines:?}");
        assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
    }

    #[test]
    fn what_does_not_fit_ends_in_an_ellipsis() {
        let lines = wrap(&"word ".repeat(50), 120.0, 12.0, false, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].ends_with('…') && width(&lines[1], 12.0, false) <= 120.0, "{lines:?}");
    }

    #[test]
    fn long_name_is_broken_behind_a_mark() {
        let lines = wrap("a_filter_with_a_long_name", 110.0, 12.0, false, 9);
        assert_eq!(lines, ["a_filter_with_a_", "long_name"]);
    }

    #[test]
    fn room_for_nothing_still_ends() {
        assert_eq!(wrap("ab", 0.0, 12.0, false, 9), ["a", "b"]);
    }
}
