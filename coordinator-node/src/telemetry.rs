//! The counters, gauges and histograms of a node, by name; without the feature `metrics`, no-ops.
//!
//! Every metric is declared in [`METRICS`], which the documentation lists and a test checks: each
//! declared metric moves.

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Many values, of which the distribution counts.
    Histogram,
}

/// One metric of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, as the recorder sees it.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: MetricKind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it counts, and in which unit.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($ident:ident = $name:literal, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub(crate) const $ident: Metric = Metric {
                name: $name,
                kind: MetricKind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*

        /// Every metric of a node.
        pub const METRICS: &[Metric] = &[$($ident),*];
    };
}

metrics! {
    TERMS = "coordinator_terms_total", Counter, ["key"], "Leases won: terms of elections, and locks.";
    TERMS_LOST = "coordinator_terms_lost_total", Counter, ["key", "cause"], "Leases ended, by cause.";
    LEADING = "coordinator_leading", Gauge, ["key"], "1 while this node holds the lease.";
    RENEWALS = "coordinator_renewals_total", Counter, ["key", "outcome"], "Renewals answered, by outcome.";
    RENEW_SECONDS = "coordinator_renew_seconds", Histogram, ["key"], "Round trip of a renewal, in seconds.";
    ACQUIRE_SECONDS = "coordinator_acquire_seconds", Histogram, ["key"], "From the wish for a lease to its grant, in seconds.";
    VOTES_SENT = "coordinator_votes_sent_total", Counter, ["key"], "Messages of elections by vote that this node sent.";
    VOTES_DROPPED = "coordinator_votes_dropped_total", Counter, ["key", "reason"], "Messages of elections by vote that did not count: malformed, or of members that have another list of voters.";
    HEARTBEATS = "coordinator_heartbeats_total", Counter, ["outcome"], "Heartbeats answered by the store, or sent over a bus alone, by outcome.";
    HEARTBEATS_DROPPED = "coordinator_heartbeats_dropped_total", Counter, ["cause"], "Heartbeats of others that the bus brought and that were not understood, by cause.";
    DUPLICATE_NAMES = "coordinator_duplicate_names_total", Counter, [], "Names that the bus showed to be in use by two live processes.";
    MEMBERSHIPS_LOST = "coordinator_memberships_lost_total", Counter, ["cause"], "Lives of this member that ended, by cause.";
    MEMBERS = "coordinator_members", Gauge, [], "Live members of the group, as this node last heard.";
    BUS_PUBLISHED = "coordinator_bus_published_total", Counter, ["outcome"], "Messages published, by outcome: sent or failed.";
    BUS_DELIVERED = "coordinator_bus_delivered_total", Counter, [], "Messages and gaps queued for local subscribers.";
    BUS_GAPS = "coordinator_bus_gaps_total", Counter, ["cause"], "Gaps found, by cause.";
    BUS_MALFORMED = "coordinator_bus_malformed_total", Counter, [], "Frames and payloads that could not be read.";
    BUS_PUBLISH_QUEUE = "coordinator_bus_publish_queue", Gauge, [], "Messages that wait to be published, or for the backend's answer.";
    BUS_PUBLISH_SECONDS = "coordinator_bus_publish_seconds", Histogram, [], "From the begin of a batch's sending to its end, in seconds.";
    SHARDS_OWNED = "coordinator_shards_owned", Gauge, ["keyspace"], "Shards that this node owns, those being drained not counted.";
    HANDOFFS = "coordinator_handoffs_total", Counter, ["keyspace", "cause"], "Shards that this node gave back or lost, by cause.";
    DRAIN_SECONDS = "coordinator_drain_seconds", Histogram, ["keyspace"], "From the request to end a shard's work until it was gone, in seconds.";
    SHARD_RESTARTS = "coordinator_shard_restarts_total", Counter, ["keyspace"], "Shards' work started again after it failed or panicked.";
    CHECKPOINTS = "coordinator_checkpoints_total", Counter, ["keyspace", "operation", "outcome"], "Checkpoints loaded and saved, and those refused.";
    PLANNING = "coordinator_planning", Gauge, ["keyspace"], "1 while this node plans the keyspace.";
    PLANS = "coordinator_plans_total", Counter, ["keyspace", "outcome"], "Plans sent to the store, by outcome.";
    SHARDS_PLANNED = "coordinator_shards_planned_total", Counter, ["keyspace", "what"], "Shards that stored plans granted, revoked or freed.";
    EVICTIONS = "coordinator_evictions_total", Counter, ["keyspace", "cause"], "Members put out by this node's planner, by cause.";
    SWAP_SECONDS = "coordinator_swap_seconds", Histogram, ["keyspace"], "Round trip of a plan to the store, in seconds.";
}

#[cfg(feature = "metrics")]
fn labels(labels: &[(&'static str, &str)]) -> Vec<metrics::Label> {
    labels
        .iter()
        .map(|(name, value)| metrics::Label::new(*name, (*value).to_owned()))
        .collect()
}

/// Adds to a counter.
pub(crate) fn count(metric: Metric, by: u64, with: &[(&'static str, &str)]) {
    debug_assert!(matches!(metric.kind, MetricKind::Counter));
    #[cfg(feature = "metrics")]
    metrics::counter!(metric.name, labels(with)).increment(by);
    #[cfg(not(feature = "metrics"))]
    let _ = (metric, by, with);
}

/// Sets a gauge.
pub(crate) fn gauge(metric: Metric, to: f64, with: &[(&'static str, &str)]) {
    debug_assert!(matches!(metric.kind, MetricKind::Gauge));
    #[cfg(feature = "metrics")]
    metrics::gauge!(metric.name, labels(with)).set(to);
    #[cfg(not(feature = "metrics"))]
    let _ = (metric, to, with);
}

/// Records one value of a histogram.
pub(crate) fn observe(metric: Metric, value: f64, with: &[(&'static str, &str)]) {
    debug_assert!(matches!(metric.kind, MetricKind::Histogram));
    #[cfg(feature = "metrics")]
    metrics::histogram!(metric.name, labels(with)).record(value);
    #[cfg(not(feature = "metrics"))]
    let _ = (metric, value, with);
}
