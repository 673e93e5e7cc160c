//! Numbers out of measurements: medians, percentiles, and what is kept of a run.

use std::time::Duration;

use serde::Serialize;

/// What one run, or the medians of several, says about a server.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) requests_per_second: f64,
    /// CPU time of the server, all threads.
    pub(crate) cpu_us_per_request: f64,
    /// The same as a multiple of one ES256 verification on the same core at the same time.
    pub(crate) cpu_v_per_request: f64,
    /// That verification.
    pub(crate) v_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) requests: f64,
    pub(crate) errors: u64,
}

impl Figures {
    /// The medians of several runs; errors are added up.
    pub(crate) fn of_several(runs: &[Self]) -> Self {
        let middle = |of: fn(&Self) -> f64| median(&runs.iter().map(of).collect::<Vec<_>>());
        Self {
            requests_per_second: middle(|run| run.requests_per_second),
            cpu_us_per_request: middle(|run| run.cpu_us_per_request),
            cpu_v_per_request: middle(|run| run.cpu_v_per_request),
            v_us: middle(|run| run.v_us),
            p50_us: middle(|run| run.p50_us),
            p99_us: middle(|run| run.p99_us),
            p999_us: middle(|run| run.p999_us),
            requests: middle(|run| run.requests),
            errors: runs.iter().map(|run| run.errors).sum(),
        }
    }
}

/// The middle value; the mean of the two in the middle when their number is even; not a number when there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len().wrapping_sub(1) / 2), sorted.get(sorted.len() / 2)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => f64::NAN,
    }
}

/// The least value that this share of all values does not exceed (nearest rank), in microseconds. `sorted` is.
pub(crate) fn percentile_us(sorted: &[Duration], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(f64::NAN, |duration| duration.as_secs_f64() * 1e6)
}

/// The smallest and the largest.
pub(crate) fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, middle) in [(&[3.0, 1.0, 2.0][..], 2.0), (&[4.0, 1.0, 3.0, 2.0], 2.5), (&[7.0], 7.0)] {
            assert!((median(values) - middle).abs() < 1e-9, "{values:?}");
        }
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let sorted: Vec<Duration> = (1..=1000).map(Duration::from_micros).collect();
        for (share, micros) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0), (0.0, 1.0)] {
            assert!((percentile_us(&sorted, share) - micros).abs() < 1e-6, "{share}");
        }
        assert!((percentile_us(&sorted[..3], 0.99) - 3.0).abs() < 1e-6);
        assert!(percentile_us(&[], 0.5).is_nan());
    }

    #[test]
    fn errors_of_several_runs_add_up() {
        let run = |cpu, errors| Figures {
            requests_per_second: 1.0,
            cpu_us_per_request: cpu,
            cpu_v_per_request: cpu / 80.0,
            v_us: 80.0,
            p50_us: 1.0,
            p99_us: 2.0,
            p999_us: 3.0,
            requests: 9.0,
            errors,
        };
        let all = Figures::of_several(&[run(160.0, 1), run(80.0, 0), run(90.0, 2)]);
        assert!((all.cpu_us_per_request - 90.0).abs() < 1e-9);
        assert_eq!(all.errors, 3);
    }
}
