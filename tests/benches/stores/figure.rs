//! One figure: what it is, the raw one beside it, and whether it is as good as promised.

use std::fmt;
use std::time::Duration;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Unit {
    PerSecond,
    Seconds,
    Percent,
    Count,
}

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// Ours is at least so much of the raw one.
    RatioAtLeast(f64),
    /// Ours is at most so much of the raw one.
    RatioAtMost(f64),
    /// At most this, in the figure's unit.
    AtMost(f64),
    /// At least this, in the figure's unit.
    AtLeast(f64),
    /// Nothing: told for what it says beside the others.
    Nothing,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    what: String,
    unit: Unit,
    raw: Option<f64>,
    ours: f64,
    ratio: Option<f64>,
    target: Target,
    /// The value that is held against the target, where that is another than ours: the unfavourable
    /// end of a confidence interval.
    judged: Option<f64>,
}

impl Figure {
    /// From rounds of raw and ours that alternated.
    pub(crate) fn paired(what: &str, unit: Unit, rounds: &[(f64, f64)], target: Target) -> Self {
        let ratios = rounds.iter().map(|(raw, ours)| ours / raw).collect();
        Self {
            what: what.to_owned(),
            unit,
            raw: Some(median(rounds.iter().map(|(raw, _)| *raw).collect())),
            ours: median(rounds.iter().map(|(_, ours)| *ours).collect()),
            ratio: Some(median(ratios)),
            target,
            judged: None,
        }
    }

    /// One that has nothing beside it.
    pub(crate) fn alone(what: impl Into<String>, unit: Unit, ours: f64, target: Target) -> Self {
        Self {
            what: what.into(),
            unit,
            raw: None,
            ours,
            ratio: None,
            target,
            judged: None,
        }
    }

    /// The same, judged by another value than the one that is shown first.
    pub(crate) fn judged_by(self, judged: f64) -> Self {
        Self {
            judged: Some(judged),
            ..self
        }
    }

    fn is_met(&self) -> Option<bool> {
        let value = self.judged.unwrap_or(self.ours);
        match self.target {
            Target::RatioAtLeast(least) => self.ratio.map(|ratio| ratio >= least),
            Target::RatioAtMost(most) => self.ratio.map(|ratio| ratio <= most),
            Target::AtMost(most) => Some(value <= most),
            Target::AtLeast(least) => Some(value >= least),
            Target::Nothing => None,
        }
    }

    fn row(&self) -> [String; 6] {
        let shown = |value| Shown(self.unit, value).to_string();
        let target = match self.target {
            Target::RatioAtLeast(least) => format!("≥ {least} × raw"),
            Target::RatioAtMost(most) => format!("≤ {most} × raw"),
            Target::AtMost(most) => format!("≤ {}", shown(most)),
            Target::AtLeast(least) => format!("≥ {}", shown(least)),
            Target::Nothing => String::new(),
        };
        let met = match self.is_met() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        [
            self.what.clone(),
            self.raw.map(shown).unwrap_or_default(),
            shown(self.ours),
            self.ratio
                .map(|ratio| format!("{ratio:.2}"))
                .unwrap_or_default(),
            target,
            met.to_owned(),
        ]
    }
}

/// A value as it is read best.
struct Shown(Unit, f64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Unit::PerSecond, n) if n < 10e3 => write!(f, "{n:.0} /s"),
            (Unit::PerSecond, n) if n < 1e6 => write!(f, "{:.1} k/s", n / 1e3),
            (Unit::PerSecond, n) => write!(f, "{:.2} M/s", n / 1e6),
            (Unit::Seconds, n) if n < 1e-3 => write!(f, "{:.0} µs", n * 1e6),
            (Unit::Seconds, n) if n < 1.0 => write!(f, "{:.1} ms", n * 1e3),
            (Unit::Seconds, n) => write!(f, "{n:.3} s"),
            (Unit::Percent, n) => write!(f, "{n:.1} %"),
            (Unit::Count, n) => write!(f, "{n:.2}"),
        }
    }
}

/// The table, as it stands in `BENCHMARKS.md`.
pub(crate) fn table(figures: &[Figure]) -> String {
    let head = ["what", "raw", "ours", "ratio", "target", "met"].map(str::to_owned);
    let rule = [(); 6].map(|()| "---".to_owned());
    let rows = figures.iter().map(Figure::row);
    let lines = [head, rule].into_iter().chain(rows);
    let lines: Vec<_> = lines
        .map(|row| format!("| {} |", row.join(" | ")))
        .collect();
    lines.join("\n")
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (below, above) = ((values.len().max(1) - 1) / 2, values.len() / 2);
    match (values.get(below), values.get(above)) {
        (Some(a), Some(b)) => f64::midpoint(*a, *b),
        _ => f64::NAN,
    }
}

/// The largest one.
pub(crate) fn worst(spans: &[Duration]) -> f64 {
    spans.iter().max().map_or(f64::NAN, Duration::as_secs_f64)
}

/// The middle one, in seconds.
pub(crate) fn middle(spans: &[Duration]) -> f64 {
    median(spans.iter().map(Duration::as_secs_f64).collect())
}
