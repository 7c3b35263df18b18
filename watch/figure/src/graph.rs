//! The figure as text: lifelines a few columns apart on the left, what happens in words on the right.

use crate::scene::{Row, Scene};
use crate::step::{Kind, Tone};
use crate::units::hold_spaces;

/// Columns between two lifelines.
const LANE: usize = 4;
/// Columns between the graph and the words.
const GUTTER: usize = 3;
/// Fewest columns for words; a narrower terminal wraps by itself.
const WORDS_MIN: usize = 24;

/// Draws the scene `width` columns wide.
pub fn draw(scene: &Scene, width: usize) -> String {
    let mut out = format!("{}\n{}\n\n", scene.title, scene.subtitle);
    if scene.rows.is_empty() {
        out.push_str("No events were recorded.\n");
        return out;
    }
    let times: Vec<String> = scene.rows.iter().map(|row| scene.unit.format(row.step.time_ns)).collect();
    let time_width = times.iter().map(|time| time.chars().count()).max().unwrap_or(0);
    let indent = time_width + 2;
    for (index, lane) in scene.lanes.iter().enumerate() {
        let lines: String = (0..index).map(|_| format!("│{}", " ".repeat(LANE - 1))).collect();
        push_line(&mut out, &format!("{}{lines}┌ {} ({})", " ".repeat(indent), lane.name, lane.role));
    }
    let graph_width = scene.lanes.len().saturating_sub(1) * LANE + 1;
    let words = width.saturating_sub(indent + graph_width + GUTTER).max(WORDS_MIN);
    let mut last_time = "";
    for (index, row) in scene.rows.iter().enumerate() {
        let time = if times[index] == last_time { "" } else { times[index].as_str() };
        last_time = &times[index];
        let graph = graph(scene, index, Some(row));
        let rest = self::graph(scene, index, None);
        for (line, text) in wrap(&words_of(row), words).into_iter().enumerate() {
            let (time, graph) = if line == 0 { (time, &graph) } else { ("", &rest) };
            push_line(&mut out, &format!("{time:>time_width$}  {graph}{}{text}", " ".repeat(GUTTER)));
        }
    }
    out
}

fn push_line(out: &mut String, line: &str) {
    out.push_str(&line.trim_end().replace('\u{A0}', " "));
    out.push('\n');
}

fn words_of(row: &Row) -> String {
    match row.step.kind {
        Kind::Note(Tone::Bad) | Kind::Fold | Kind::Stop => row.step.title.clone(),
        // Held together here too: lines are broken at spaces below.
        Kind::Note(_) => hold_spaces(&row.step.sentence()),
        _ => row.step.sentence(),
    }
}

/// The lifelines at a row, with its arrow if `row` is given.
fn graph(scene: &Scene, index: usize, row: Option<&Row>) -> String {
    let width = scene.lanes.len().saturating_sub(1) * LANE + 1;
    let mut cells = vec![' '; width];
    for lane in 0..scene.lanes.len() {
        let busy = scene.bars.iter().any(|bar| bar.lane == lane && (bar.from..=bar.to).contains(&index));
        cells[lane * LANE] = if busy { '┃' } else { '│' };
    }
    let Some(row) = row else { return cells.into_iter().collect() };
    let (left, right) = (row.from.min(row.to) * LANE, row.from.max(row.to) * LANE);
    match row.step.kind {
        Kind::Fold => cells.iter_mut().step_by(LANE).for_each(|cell| *cell = '┊'),
        Kind::Note(Tone::Bad) => cells[left] = '!',
        Kind::Stop => cells.iter_mut().step_by(LANE).for_each(|cell| *cell = '╳'),
        Kind::Note(_) => cells[left] = '•',
        _ if left == right => cells[left] = '↺',
        kind => {
            let line = match kind {
                Kind::Return => '╌',
                Kind::Farewell => '═',
                _ => '─',
            };
            for cell in &mut cells[left + 1..right] {
                *cell = match *cell {
                    ' ' => line,
                    // A lifeline in between is crossed, not met.
                    lifeline => lifeline,
                };
            }
            if row.to > row.from {
                cells[right - 1] = '▶';
            } else {
                cells[left + 1] = '◀';
            }
        }
    }
    cells.into_iter().collect()
}

/// Breaks a text into lines of at most `room` characters.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut word: Vec<char> = word.chars().collect();
        let used = lines.last().map_or(0, |line| line.chars().count());
        if used > 0 && used + 1 + word.len() > room {
            lines.push(String::new());
        } else if used > 0
            && let Some(line) = lines.last_mut()
        {
            line.push(' ');
        }
        while word.len() > room {
            let rest = word.split_off(room);
            if let Some(line) = lines.last_mut() {
                line.extend(word);
            }
            lines.push(String::new());
            word = rest;
        }
        if let Some(line) = lines.last_mut() {
            line.extend(word);
        }
    }
    lines
}
