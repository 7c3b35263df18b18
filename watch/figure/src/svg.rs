//! The figure as SVG.
//!
//! Plain elements only (no script, no marker, no filter), so that every viewer and every converter draws the
//! same. Text is measured beforehand ([`width`](crate::width)) and broken to the room it has: nothing overlaps and
//! nothing is cut off, whatever a driver calls itself.

use crate::scene::{Row, Scene};
use crate::step::{Kind, Tone};

mod layout;
mod sheet;

use layout::{Layout, RowPlace};
use sheet::{Anchor, Sheet, TextStyle};

/// Ink of calls, and of everything without a colour of its own.
const INK: &str = "#1c2733";
/// Arrows of calls.
const CALL: &str = "#1b3a6b";
/// Arrows of returns.
const RETURN: &str = "#55647a";
/// What goes over the network.
const NETWORK: &str = "#00614c";
/// What went well.
const GOOD: &str = "#1e6b34";
/// What is not over.
const PENDING: &str = "#7d5200";
/// What failed.
const BAD: &str = "#b3261e";
/// Times, roles, explanations.
const FAINT: &str = "#55606e";

/// Draws the scene.
pub fn draw(scene: &Scene) -> String {
    let layout = Layout::of(scene);
    let mut sheet = Sheet::new(layout.width, layout.height, &scene.title, &description(scene));
    sheet.text(layout::MARGIN, layout.title_y, &scene.title, TextStyle::TITLE, Anchor::Start, INK);
    for (index, line) in layout.subtitle.iter().enumerate() {
        let y = layout.subtitle_y + index as f64 * layout::SMALL_LINE;
        sheet.text(layout::MARGIN, y, line, TextStyle::SMALL, Anchor::Start, FAINT);
    }
    if scene.rows.is_empty() {
        sheet.text(layout::MARGIN, layout.rows_top, "No events were recorded.", TextStyle::LABEL, Anchor::Start, INK);
        return sheet.finish();
    }
    lifelines(&mut sheet, &layout);
    bars(&mut sheet, scene, &layout);
    let mut last_time = String::new();
    for (index, (row, place)) in scene.rows.iter().zip(&layout.rows).enumerate() {
        let time = scene.unit.format(row.step.time_ns);
        if time != last_time {
            sheet.text(layout.time_x, place.arrow_y + 4.0, &time, TextStyle::SMALL, Anchor::End, FAINT);
            last_time = time;
        }
        match row.step.kind {
            Kind::Note(tone) => note(&mut sheet, place, tone),
            Kind::Fold => across(&mut sheet, place, ("#f1f3f5", "#9aa5b1", "3 3"), TextStyle::ITALIC, INK),
            Kind::Stop => across(&mut sheet, place, (BAD, BAD, ""), TextStyle::STRONG, "#ffffff"),
            _ => arrow(&mut sheet, scene, &layout, index, row, place),
        }
    }
    heads(&mut sheet, scene, &layout);
    legend(&mut sheet, &layout);
    sheet.finish()
}

fn description(scene: &Scene) -> String {
    let lanes: Vec<&str> = scene.lanes.iter().map(|lane| lane.name.as_str()).collect();
    format!("Sequence diagram with the lifelines {}. {}.", lanes.join(", "), scene.subtitle)
}

fn lifelines(sheet: &mut Sheet, layout: &Layout) {
    for &x in &layout.lanes {
        sheet.line((x, layout.heads_bottom), (x, layout.rows_bottom), "#9aa5b1", 1.0, "4 3");
    }
}

fn heads(sheet: &mut Sheet, scene: &Scene, layout: &Layout) {
    for ((lane, &x), head) in scene.lanes.iter().zip(&layout.lanes).zip(&layout.heads) {
        let height = layout.heads_bottom - layout.heads_top;
        sheet.rect((x - head.width / 2.0, layout.heads_top), (head.width, height), 5.0, "#e8eef6", "#5c7394", "");
        let mut y = layout.heads_top + 18.0;
        for line in &head.name {
            sheet.text(x, y, line, TextStyle::HEAD, Anchor::Middle, INK);
            y += layout::HEAD_LINE;
        }
        for line in &head.role {
            sheet.text(x, y, line, TextStyle::SMALL, Anchor::Middle, FAINT);
            y += layout::SMALL_LINE;
        }
        // At the foot again, for whoever has scrolled.
        if layout.feet {
            let foot = match head.name.as_slice() {
                [whole] => whole.clone(),
                [first, ..] => format!("{}…", first.trim_end_matches('_')),
                [] => lane.name.clone(),
            };
            let foot = &foot;
            sheet.text(x, layout.rows_bottom + 16.0, foot, TextStyle::HEAD, Anchor::Middle, INK);
        }
    }
}

fn bars(sheet: &mut Sheet, scene: &Scene, layout: &Layout) {
    for bar in &scene.bars {
        let (Some(from), Some(to), Some(&x)) =
            (layout.rows.get(bar.from), layout.rows.get(bar.to), layout.lanes.get(bar.lane))
        else {
            continue;
        };
        let top = from.arrow_y - 1.0;
        let bottom = if bar.to > bar.from { to.arrow_y + 1.0 } else { top + 13.0 };
        let left = x - layout::BAR / 2.0 + bar.level as f64 * layout::BAR_STEP;
        sheet.rect((left, top), (layout::BAR, bottom - top), 1.0, "#d5e3f5", "#5c7394", "");
    }
}

fn arrow(sheet: &mut Sheet, scene: &Scene, layout: &Layout, index: usize, row: &Row, place: &RowPlace) {
    let (colour, stroke, dash) = match row.step.kind {
        Kind::Return => (RETURN, 1.2, "5 3"),
        Kind::Network => (NETWORK, 1.6, ""),
        Kind::Farewell => (NETWORK, 2.2, ""),
        _ => (CALL, 1.2, ""),
    };
    let rightward = row.to > row.from;
    let direction = if rightward { 1.0 } else { -1.0 };
    let mut from = layout.edge(scene, index, row.from, rightward || row.to == row.from);
    let to = layout.edge(scene, index, row.to, !rightward);
    let y = place.arrow_y;
    if row.to == row.from {
        // To itself: out, down, and back.
        let (out, top) = (from + layout::LOOP, y - layout::LOOP_HEIGHT);
        sheet.line((from, top), (out, top), colour, stroke, dash);
        sheet.line((out, top), (out, y), colour, stroke, dash);
        from = out;
    }
    sheet.line((from, y), (to - direction * 7.0, y), colour, stroke, dash);
    sheet.polygon(&[(to, y), (to - direction * 9.0, y - 4.0), (to - direction * 9.0, y + 4.0)], colour);
    let style = if row.step.kind == Kind::Farewell { TextStyle::STRONG } else { TextStyle::LABEL };
    let label_colour = match row.step.kind {
        Kind::Network | Kind::Farewell => NETWORK,
        _ => INK,
    };
    for (line_index, line) in place.label.iter().enumerate() {
        let above = place.label.len() - 1 - line_index;
        let line_y = y - 5.0 - above as f64 * layout::LABEL_LINE;
        sheet.backed_text(place.centre, line_y, line, style, label_colour);
    }
    let tone = row.step.outcome.as_ref().map_or(Tone::Plain, |outcome| outcome.tone);
    let style = if tone == Tone::Bad { TextStyle::SMALL_STRONG } else { TextStyle::SMALL };
    for (line_index, line) in place.outcome.iter().enumerate() {
        let line_y = y + 13.0 + line_index as f64 * layout::SMALL_LINE;
        sheet.backed_text(place.centre, line_y, line, style, tone_colour(tone));
    }
}

fn note(sheet: &mut Sheet, place: &RowPlace, tone: Tone) {
    let (fill, border, colour) = match tone {
        Tone::Bad => ("#fdecea", BAD, BAD),
        _ => ("#fffbe6", "#b8a14a", INK),
    };
    let height = place.label.len() as f64 * layout::SMALL_LINE + 8.0;
    let top = place.arrow_y - height / 2.0;
    let (left, width) = (place.centre - place.box_width / 2.0, place.box_width);
    sheet.rect((left, top), (width, height), 3.0, fill, border, "");
    for (index, line) in place.label.iter().enumerate() {
        let y = top + 15.0 + index as f64 * layout::SMALL_LINE;
        sheet.text(left + layout::NOTE_PADDING, y, line, TextStyle::SMALL, Anchor::Start, colour);
    }
}

/// A box over all lifelines.
fn across(sheet: &mut Sheet, place: &RowPlace, looks: (&str, &str, &str), style: TextStyle, colour: &str) {
    let (fill, border, dash) = looks;
    let height = place.label.len() as f64 * layout::LABEL_LINE + 10.0;
    let top = place.arrow_y - height / 2.0;
    sheet.rect((place.centre - place.box_width / 2.0, top), (place.box_width, height), 3.0, fill, border, dash);
    for (index, line) in place.label.iter().enumerate() {
        let y = top + 16.0 + index as f64 * layout::LABEL_LINE;
        sheet.text(place.centre, y, line, style, Anchor::Middle, colour);
    }
}

fn legend(sheet: &mut Sheet, layout: &Layout) {
    for item in &layout.legend {
        let (x, y) = (item.x, item.y);
        match item.sample {
            layout::Sample::Bar => sheet.rect((x + 8.0, y - 11.0), (layout::BAR, 14.0), 1.0, "#d5e3f5", "#5c7394", ""),
            layout::Sample::Fold => sheet.rect((x, y - 10.0), (26.0, 12.0), 3.0, "#f1f3f5", "#9aa5b1", "3 3"),
            layout::Sample::Arrow(kind) => {
                let (colour, stroke, dash) = match kind {
                    Kind::Return => (RETURN, 1.2, "5 3"),
                    Kind::Network => (NETWORK, 1.6, ""),
                    _ => (CALL, 1.2, ""),
                };
                sheet.line((x, y - 4.0), (x + 19.0, y - 4.0), colour, stroke, dash);
                sheet.polygon(&[(x + 26.0, y - 4.0), (x + 17.0, y - 8.0), (x + 17.0, y)], colour);
            }
        }
        sheet.text(x + layout::SAMPLE, y, item.text, TextStyle::SMALL, Anchor::Start, FAINT);
    }
}

fn tone_colour(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => INK,
        Tone::Good => GOOD,
        Tone::Pending => PENDING,
        Tone::Bad => BAD,
    }
}

#[cfg(test)]
mod tests;
