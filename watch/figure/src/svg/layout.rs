//! Where everything of an SVG figure goes.

use crate::scene::{Row, Scene};
use crate::step::Kind;
use crate::svg::sheet::TextStyle;
use crate::width::wrap;

/// Free space around the figure.
pub const MARGIN: f64 = 24.0;
/// Distance of label lines.
pub const LABEL_LINE: f64 = 15.0;
/// Distance of small lines.
pub const SMALL_LINE: f64 = 14.0;
/// Distance of the lines of a head.
pub const HEAD_LINE: f64 = 16.0;
/// Width of an activation bar.
pub const BAR: f64 = 8.0;
/// How far a bar stands right of the one beside it.
pub const BAR_STEP: f64 = 5.0;
/// Space beside the text of a note.
pub const NOTE_PADDING: f64 = 7.0;
/// How far the arrow of a call to oneself goes out.
pub const LOOP: f64 = 22.0;
/// ... and how far it comes down.
pub const LOOP_HEIGHT: f64 = 9.0;
/// Space for a sample of the legend.
pub const SAMPLE: f64 = 34.0;

/// Least and greatest distance of two lifelines.
const GAP: (f64, f64) = (150.0, 300.0);
/// Widest head, note, and text of a fold.
const HEAD_MAX: f64 = 190.0;
const NOTE_MAX: f64 = 250.0;
const FOLD_MIN: f64 = 320.0;
/// Least space above an arrow, so that the times of rows keep clear of each other.
const ARROW_ABOVE: f64 = 15.0;
/// Height from which on the lifelines are named again at their feet.
const TALL: f64 = 900.0;

/// The places of everything.
#[derive(Debug)]
pub struct Layout {
    /// Width of the figure.
    pub width: f64,
    /// Height of the figure.
    pub height: f64,
    /// Baseline of the title.
    pub title_y: f64,
    /// First baseline of the subtitle.
    pub subtitle_y: f64,
    /// Lines of the subtitle.
    pub subtitle: Vec<String>,
    /// Right end of times.
    pub time_x: f64,
    /// Top of the lifelines' heads.
    pub heads_top: f64,
    /// Bottom of the lifelines' heads.
    pub heads_bottom: f64,
    /// The heads.
    pub heads: Vec<Head>,
    /// Lifelines.
    pub lanes: Vec<f64>,
    /// Top of the first row.
    pub rows_top: f64,
    /// Bottom of the last row.
    pub rows_bottom: f64,
    /// The rows.
    pub rows: Vec<RowPlace>,
    /// Whether lifelines are named at their feet too.
    pub feet: bool,
    /// The legend.
    pub legend: Vec<LegendItem>,
}

/// The head of a lifeline.
#[derive(Debug)]
pub struct Head {
    /// Width of its box.
    pub width: f64,
    /// Lines of its name.
    pub name: Vec<String>,
    /// Lines of its role.
    pub role: Vec<String>,
}

/// The place of a row.
#[derive(Debug)]
pub struct RowPlace {
    /// Height of its arrow, or the middle of its box.
    pub arrow_y: f64,
    /// Lines above the arrow, or in the box.
    pub label: Vec<String>,
    /// Lines below the arrow.
    pub outcome: Vec<String>,
    /// Centre of its texts.
    pub centre: f64,
    /// Width of its box, if it has one.
    pub box_width: f64,
}

/// An entry of the legend.
#[derive(Debug)]
pub struct LegendItem {
    /// Left end.
    pub x: f64,
    /// Baseline.
    pub y: f64,
    /// What it shows.
    pub sample: Sample,
    /// What it says.
    pub text: &'static str,
}

/// What an entry of the legend shows.
#[derive(Clone, Copy, Debug)]
pub enum Sample {
    /// An arrow of this kind.
    Arrow(Kind),
    /// An activation bar.
    Bar,
    /// A fold.
    Fold,
}

impl Layout {
    /// Measures a scene.
    pub fn of(scene: &Scene) -> Self {
        let times = scene.rows.iter().map(|row| TextStyle::SMALL.width(&scene.unit.format(row.step.time_ns)));
        let time_x = MARGIN + times.fold(0.0, f64::max);
        let heads: Vec<Head> = scene.lanes.iter().map(|lane| head(&lane.name, &lane.role)).collect();
        let lanes = lanes(scene, &heads, time_x);

        // Texts of the last driver's calls to itself stand beside it.
        let beside = match labels_between(scene, lanes.len().saturating_sub(1)) {
            0.0 => 40.0,
            wanted => wanted.clamp(GAP.0, GAP.1),
        };
        let right = lanes.last().zip(heads.last()).map_or(0.0, |(x, head)| x + (head.width / 2.0).max(beside));
        let mut layout = Self {
            width: right.max(MARGIN + TextStyle::TITLE.width(&scene.title)).max(480.0) + MARGIN,
            height: 0.0,
            title_y: MARGIN + 16.0,
            subtitle_y: MARGIN + 36.0,
            subtitle: Vec::new(),
            time_x,
            heads_top: 0.0,
            heads_bottom: 0.0,
            heads,
            lanes,
            rows_top: 0.0,
            rows_bottom: 0.0,
            rows: Vec::new(),
            feet: false,
            legend: Vec::new(),
        };
        let room = layout.width - 2.0 * MARGIN;
        layout.subtitle = wrap(&scene.subtitle, room, TextStyle::SMALL.size, false, 3);
        layout.heads_top = layout.subtitle_y + layout.subtitle.len() as f64 * SMALL_LINE + 4.0;
        let head_height = |head: &Head| 10.0 + head.name.len() as f64 * HEAD_LINE + head.role.len() as f64 * SMALL_LINE;
        layout.heads_bottom = layout.heads_top + layout.heads.iter().map(head_height).fold(0.0, f64::max);
        layout.rows_top = layout.heads_bottom + 14.0;
        layout.place_rows(scene);
        layout.place_legend(scene);
        layout
    }

    /// Where an arrow meets a lifeline at a row: at the edge of the bars that stand there.
    pub fn edge(&self, scene: &Scene, row: usize, lane: usize, right: bool) -> f64 {
        let x = self.lanes.get(lane).copied().unwrap_or(0.0);
        let here = scene.bars.iter().filter(|bar| bar.lane == lane && (bar.from..=bar.to).contains(&row));
        match (here.map(|bar| bar.level).max(), right) {
            (None, _) => x,
            (Some(_), false) => x - BAR / 2.0,
            (Some(level), true) => x + BAR / 2.0 + level as f64 * BAR_STEP,
        }
    }

    fn place_rows(&mut self, scene: &Scene) {
        let mut y = self.rows_top;
        for (index, row) in scene.rows.iter().enumerate() {
            let mut place = match row.step.kind {
                Kind::Note(_) => self.note(row),
                Kind::Fold | Kind::Stop => self.fold(row),
                _ => self.arrow(scene, index, row),
            };
            let (above, below) = match row.step.kind {
                Kind::Note(_) => (
                    place.label.len() as f64 * SMALL_LINE / 2.0 + 7.0,
                    place.label.len() as f64 * SMALL_LINE / 2.0 + 7.0,
                ),
                Kind::Fold | Kind::Stop => (
                    place.label.len() as f64 * LABEL_LINE / 2.0 + 9.0,
                    place.label.len() as f64 * LABEL_LINE / 2.0 + 9.0,
                ),
                _ => (
                    (place.label.len() as f64 * LABEL_LINE + 6.0).max(ARROW_ABOVE),
                    place.outcome.len() as f64 * SMALL_LINE + 6.0,
                ),
            };
            place.arrow_y = y + above;
            y += above + below;
            self.rows.push(place);
        }
        self.rows_bottom = y + 8.0;
        self.feet = self.rows_bottom > TALL;
    }

    fn arrow(&self, scene: &Scene, index: usize, row: &Row) -> RowPlace {
        let (left, right) = (row.from.min(row.to), row.from.max(row.to));
        // A call to oneself has its texts on the right, beside its arrow.
        let right = right.max(left + usize::from(left == right));
        let beside = if row.from == row.to { LOOP } else { 0.0 };
        // Texts keep clear of all bars at either end, not only of those at this row, since rows lie close.
        let near = index.saturating_sub(1)..=index + 1;
        let beyond = self.width - MARGIN;
        let right_edge = |row| if right < self.lanes.len() { self.edge(scene, row, right, false) } else { beyond };
        let edges = near.map(|row| (self.edge(scene, row, left, true) + beside, right_edge(row)));
        let (left, right) =
            edges.fold((f64::MIN, f64::MAX), |(left, right), edge| (left.max(edge.0), right.min(edge.1)));
        let room = (right - left - 22.0).max(60.0);
        let style = if row.step.kind == Kind::Farewell { TextStyle::STRONG } else { TextStyle::LABEL };
        let mut label = wrap(&row.step.label(), room, style.size, style.bold, 6);
        let mut outcome = Vec::new();
        if let Some(of) = &row.step.outcome {
            // Bold is wider: room for it whether or not it is.
            outcome = wrap(&of.text, room, TextStyle::SMALL_STRONG.size, true, 4);
        }
        if label.is_empty() && outcome.is_empty() {
            label.push("returns".into());
        }
        RowPlace { arrow_y: 0.0, label, outcome, centre: (left + right) / 2.0, box_width: 0.0 }
    }

    fn note(&self, row: &Row) -> RowPlace {
        let lines = wrap(&row.step.title, NOTE_MAX - 2.0 * NOTE_PADDING, TextStyle::SMALL.size, false, 6);
        let text = lines.iter().map(|line| TextStyle::SMALL.width(line)).fold(0.0, f64::max);
        let box_width = text + 2.0 * NOTE_PADDING;
        let x = self.lanes.get(row.from).copied().unwrap_or(0.0);
        // Within the figure, clear of the times.
        let centre = x.min(self.width - MARGIN - box_width / 2.0).max(self.time_x + 12.0 + box_width / 2.0);
        RowPlace { arrow_y: 0.0, label: lines, outcome: Vec::new(), centre, box_width }
    }

    fn fold(&self, row: &Row) -> RowPlace {
        let (Some(first), Some(last)) = (self.lanes.first(), self.lanes.last()) else {
            return RowPlace { arrow_y: 0.0, label: Vec::new(), outcome: Vec::new(), centre: 0.0, box_width: 0.0 };
        };
        let left = (first - 40.0).max(self.time_x + 12.0);
        let right = (last + 40.0).max(left + FOLD_MIN).min(self.width - MARGIN);
        let (style, lines_max) = match row.step.kind {
            Kind::Stop => (TextStyle::STRONG, 8),
            _ => (TextStyle::ITALIC, 4),
        };
        let label = wrap(&row.step.title, right - left - 20.0, style.size, style.bold, lines_max);
        RowPlace { arrow_y: 0.0, label, outcome: Vec::new(), centre: (left + right) / 2.0, box_width: right - left }
    }

    fn place_legend(&mut self, scene: &Scene) {
        let has = |wanted: &dyn Fn(Kind) -> bool| scene.rows.iter().any(|row| wanted(row.step.kind));
        let items = [
            (has(&|kind| kind == Kind::Call), Sample::Arrow(Kind::Call), "call or request, and the status it returned"),
            (has(&|kind| kind == Kind::Return), Sample::Arrow(Kind::Return), "return or completion"),
            (
                has(&|kind| matches!(kind, Kind::Network | Kind::Farewell)),
                Sample::Arrow(Kind::Network),
                "over the network",
            ),
            (!scene.bars.is_empty(), Sample::Bar, "driver code runs, or a request is with the driver"),
            (has(&|kind| kind == Kind::Fold), Sample::Fold, "steps left out"),
        ];
        let feet = if self.feet { 24.0 } else { 0.0 };
        let mut y = self.rows_bottom + feet + 22.0;
        let mut x = MARGIN;
        for (_, sample, text) in items.into_iter().filter(|item| item.0) {
            let width = SAMPLE + TextStyle::SMALL.width(text);
            if x > MARGIN && x + width > self.width - MARGIN {
                x = MARGIN;
                y += 18.0;
            }
            self.legend.push(LegendItem { x, y, sample, text });
            x += width + 22.0;
        }
        self.height = y + MARGIN;
    }
}

fn head(name: &str, role: &str) -> Head {
    let name = wrap(name, HEAD_MAX - 20.0, TextStyle::HEAD.size, true, 2);
    let role = wrap(role, HEAD_MAX - 20.0, TextStyle::SMALL.size, false, 2);
    let names = name.iter().map(|line| TextStyle::HEAD.width(line));
    let width = names.chain(role.iter().map(|line| TextStyle::SMALL.width(line))).fold(70.0, f64::max) + 20.0;
    Head { width, name, role }
}

/// Lifelines as far apart as their heads and the labels between neighbours need.
fn lanes(scene: &Scene, heads: &[Head], time_x: f64) -> Vec<f64> {
    let mut lanes = Vec::new();
    let mut x = time_x + 20.0;
    for (index, head) in heads.iter().enumerate() {
        x += match index.checked_sub(1).and_then(|before| heads.get(before)) {
            None => (head.width / 2.0).max(50.0),
            Some(before) => {
                let boxes = (before.width + head.width) / 2.0 + 16.0;
                labels_between(scene, index - 1).clamp(GAP.0, GAP.1).max(boxes)
            }
        };
        lanes.push(x);
    }
    lanes
}

/// The distance that the labels between lane `left` and the next would like to have.
fn labels_between(scene: &Scene, left: usize) -> f64 {
    let between = scene.rows.iter().filter(|row| row.from.min(row.to) == left && row.from.max(row.to) <= left + 1);
    let arrows = between.filter(|row| !matches!(row.step.kind, Kind::Fold | Kind::Stop | Kind::Note(_)));
    let room = |row: &Row| {
        let beside = if row.from == row.to { LOOP } else { 0.0 };
        TextStyle::STRONG.width(&row.step.label()) + 40.0 + beside
    };
    arrows.map(room).fold(0.0, f64::max)
}
