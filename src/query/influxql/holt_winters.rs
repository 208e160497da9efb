//! Holt-Winters: a forecast from level, damped trend and season.
//!
//! The model is the damped multiplicative one. Its parameters are those with the least sum of squared errors, as Nelder and Mead's
//! method finds them from a grid of sixteen starts: the first of the best ones counts. Start values, factors and the rule
//! when to stop are those of InfluxDB 1, so that digits agree; there, computing an error moves the seasons that it is computed of, so here too.
//!
//! Always true: the work is done in steps of one move of the simplex, so that a query can be cancelled between them.

use super::reduce::Point;
use super::value::Value;

/// How far the first trend and level are trusted, where there is no season.
const FIRST_WEIGHT: f64 = 0.5;

/// The starts of each of the four factors.
const GUESSES: [f64; 2] = [0.3, 0.7];

/// A simplex whose errors differ by less stands still.
const EPSILON: f64 = 1e-4;

/// Moves of one simplex.
const MOVES_MAX: usize = 1000;

/// The most buckets that are looked back on, empty ones included: each move goes through all of them.
const BUCKETS_MAX: i64 = 100_000;

/// The longest season, in buckets. The simplex has a vertex for each.
pub(super) const SEASON_MAX: i64 = 500;

/// The most buckets that are forecast.
pub(super) const FORECAST_MAX: i64 = 100_000;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Forecast {
    /// Buckets after the last one.
    pub(super) count: usize,
    /// Buckets of a season; fewer than two are none.
    pub(super) season: usize,
    /// Whether the fitted values of the known buckets come too.
    pub(super) with_fit: bool,
    /// The length of a bucket in nanoseconds.
    pub(super) interval: i64,
}

/// The points of a series on their way to a forecast.
#[derive(Debug, Clone)]
pub(super) struct Forecaster {
    forecast: Forecast,
    points: Vec<(i64, f64)>,
    fit: Option<Fit>,
    is_done: bool,
}

impl Forecaster {
    pub(super) fn new(forecast: Forecast) -> Self {
        Self { forecast, points: Vec::new(), fit: None, is_done: false }
    }

    /// Whether all has been said.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// How many points are kept.
    pub(super) fn point_count(&self) -> usize {
        self.points.len()
    }

    /// When the first point is, if there is one.
    pub(super) fn first_time(&self) -> Option<i64> {
        self.points.first().map(|(time, _)| *time)
    }

    pub(super) fn push(&mut self, time: i64, value: f64) {
        self.points.push((time, value));
    }

    /// Does a step once all points are there. `None` if more are needed; else the forecast, once, and nothing after that.
    pub(super) fn step(&mut self) -> Option<Vec<Point>> {
        if self.is_done {
            return Some(Vec::new());
        }
        let Some(fit) = &mut self.fit else {
            self.fit = self.values().map(|values| Fit::new(values, self.forecast.season));
            self.is_done = self.fit.is_none();
            return self.is_done.then(Vec::new);
        };
        let mut parameters = fit.step()?.clone();
        self.is_done = true;
        let (model, known) = (&fit.model, fit.model.values.len());
        let values = model.forecast(self.forecast.count, &mut parameters);
        let (first, skipped) = match self.forecast.with_fit {
            true => (self.points.first()?.0, 0),
            false => (self.points.last()?.0.saturating_add(self.forecast.interval), known),
        };
        let time = |n: usize| first.saturating_add(self.forecast.interval.saturating_mul(n as i64));
        let points = values.into_iter().skip(skipped).enumerate().filter(|(_, value)| !value.is_nan());
        Some(points.map(|(n, value)| Point { time: time(n), value: Value::Float(value), row: None }).collect())
    }

    /// A value for each bucket from the first to the last, NaN where there is none; `None` if they are too few.
    fn values(&self) -> Option<Vec<f64>> {
        let Forecast { season, interval, .. } = self.forecast;
        let (&(first, first_value), &(last, _)) = (self.points.first()?, self.points.last()?);
        let start = self.nearest_bucket(first);
        let count = (self.nearest_bucket(last) - start) / interval;
        if self.points.len() < 2 || season > 1 && self.points.len() < season || !(1..BUCKETS_MAX).contains(&count) {
            return None;
        }
        let mut values = vec![first_value];
        let mut at = start;
        for (time, value) in &self.points[1..] {
            let bucket = self.nearest_bucket(*time);
            if bucket <= at {
                continue;
            }
            let gap = (bucket - at) / interval - 1;
            values.extend(std::iter::repeat_n(f64::NAN, gap as usize));
            values.push(*value);
            at = bucket;
        }
        Some(values)
    }

    fn nearest_bucket(&self, time: i64) -> i64 {
        let interval = self.forecast.interval;
        let behind = time % interval;
        let bucket = time / interval * interval;
        if behind > interval / 2 { bucket.saturating_add(interval) } else { bucket }
    }
}

/// Known values and how they are forecast. Parameters are alpha, beta, gamma, phi, level, trend, and the seasons.
#[derive(Debug, Clone)]
struct Model {
    values: Vec<f64>,
    season: usize,
}

impl Model {
    /// What level, trend and seasons are taken for at first.
    fn first_guess(&self) -> Vec<f64> {
        let (values, season) = (&self.values, self.season);
        let mut parameters = vec![0.0; 6];
        if season < 2 {
            parameters[4] = FIRST_WEIGHT * values[0];
            parameters[5] = if values[1].is_nan() { 0.0 } else { FIRST_WEIGHT * (values[1] - values[0]) };
            return parameters;
        }
        let length = season as f64;
        let known = |n: usize| values.get(n).copied().filter(|value| !value.is_nan());
        parameters[4] = (0..season).filter_map(known).fold(0.0, |sum, value| sum + 1.0 / length * value);
        let changes = (0..season).filter_map(|n| Some(known(season + n)? - known(n)?));
        parameters[5] = changes.fold(0.0, |sum, change| sum + 1.0 / (length * length) * change);
        let level = parameters[4];
        parameters.extend((0..season).map(|n| known(n).map_or(0.0, |value| value / level)));
        parameters
    }

    /// The fitted values and `more` after them. The factors are brought between 0 and 1, and the seasons move on.
    fn forecast(&self, more: usize, parameters: &mut [f64]) -> Vec<f64> {
        let (factors, rest) = parameters.split_at_mut(4);
        // What is no number stays none.
        factors.iter_mut().for_each(|factor| *factor = factor.clamp(0.0, 1.0));
        let (alpha, beta, gamma, phi) = (factors[0], factors[1], factors[2], factors[3]);
        let (mut level, mut trend) = (rest[0], rest[1]);
        let seasons = &mut rest[2..];
        let length = seasons.len();
        let mut damping = phi;
        let mut value = self.values[0];
        let count = self.values.len() + more;
        let mut forecast = Vec::with_capacity(count);
        forecast.push(value);
        // Where the ring of seasons begins.
        let mut offset = length.saturating_sub(1);
        for step in 1..count {
            let (mut last, mut next) = (1.0, 1.0);
            if length > 0 {
                // `step - length` may be negative, and a whole turn changes nothing.
                last = seasons[(step + offset) % length];
                next = seasons[(step + step % length + offset) % length];
            }
            let (level_before, trend_before) = (level, trend);
            let expected = level_before + phi * trend_before;
            level = alpha * (value / last) + (1.0 - alpha) * expected;
            trend = beta * (level - level_before) + (1.0 - beta) * phi * trend_before;
            let season = gamma * (value / expected) + (1.0 - gamma) * last;
            value = (level + damping * trend) * next;
            damping += phi.powf(step as f64);
            if length > 0 {
                seasons[(step + offset) % length] = season;
                offset += 1;
            }
            forecast.push(value);
        }
        forecast
    }

    /// The sum of squared errors.
    fn error(&self, parameters: &mut [f64]) -> f64 {
        let mut sum = 0.0;
        for (forecast, known) in self.forecast(0, parameters).into_iter().zip(&self.values) {
            if known.is_nan() {
                continue;
            }
            if forecast.is_nan() {
                return f64::INFINITY;
            }
            sum += (forecast - known).powi(2);
        }
        sum
    }
}

/// The search for the best parameters.
#[derive(Debug, Clone)]
struct Fit {
    model: Model,
    /// The number of the next start.
    start: usize,
    simplex: Option<Simplex>,
    best: Option<(f64, Vec<f64>)>,
}

impl Fit {
    fn new(values: Vec<f64>, season: usize) -> Self {
        let season = if season < 2 { 0 } else { season };
        Self { model: Model { values, season }, start: 0, simplex: None, best: None }
    }

    /// Does a move; the best parameters once all starts are through.
    fn step(&mut self) -> Option<&Vec<f64>> {
        let starts = 1 << 4;
        if let Some(simplex) = &mut self.simplex {
            if simplex.advance(&self.model) {
                let (error, parameters) = simplex.best(&self.model);
                if self.best.as_ref().is_none_or(|(least, _)| error < *least) {
                    self.best = Some((error, parameters));
                }
                self.simplex = None;
            }
            return None;
        }
        if self.start == starts {
            return self.best.as_ref().map(|(_, parameters)| parameters);
        }
        let mut parameters = self.model.first_guess();
        for (n, parameter) in parameters.iter_mut().take(4).enumerate() {
            *parameter = GUESSES[(self.start >> (3 - n)) & 1];
        }
        self.simplex = Some(Simplex::around(&parameters, &self.model));
        self.start += 1;
        None
    }
}

/// Nelder and Mead's simplex: one vertex more than there are parameters, each with its error.
#[derive(Debug, Clone)]
struct Simplex {
    vertices: Vec<Vec<f64>>,
    errors: Vec<f64>,
    moves: usize,
}

impl Simplex {
    /// A regular one with edges of length 1 and a corner at the start.
    fn around(start: &[f64], model: &Model) -> Self {
        let count = start.len() as f64;
        let near = ((count + 1.0).sqrt() - 1.0) / (count * std::f64::consts::SQRT_2);
        let far = ((count + 1.0).sqrt() - 1.0 + count) / (count * std::f64::consts::SQRT_2);
        let vertex = |corner: Option<usize>| -> Vec<f64> {
            let moved = |(n, value): (usize, &f64)| match corner {
                None => *value,
                Some(corner) if corner == n => far + value,
                Some(_) => near + value,
            };
            start.iter().enumerate().map(moved).collect()
        };
        let mut vertices: Vec<_> = std::iter::once(None).chain((0..start.len()).map(Some)).map(vertex).collect();
        let errors = vertices.iter_mut().map(|vertex| model.error(vertex)).collect();
        Self { vertices, errors, moves: 0 }
    }

    /// The first of the vertices with the least error.
    fn least(&self) -> usize {
        (1..self.errors.len()).fold(0, |least, n| if self.errors[n] < self.errors[least] { n } else { least })
    }

    fn best(&mut self, model: &Model) -> (f64, Vec<f64>) {
        let least = self.least();
        let parameters = self.vertices[least].clone();
        (model.error(&mut self.vertices[least]), parameters)
    }

    /// Moves the worst vertex, or shrinks around the best one. Returns whether that was the last move.
    fn advance(&mut self, model: &Model) -> bool {
        let errors = &self.errors;
        let worst = (1..errors.len()).fold(0, |worst, n| if errors[n] > errors[worst] { n } else { worst });
        let least = self.least();
        let second = (0..errors.len())
            .fold(least, |second, n| if errors[n] > errors[second] && errors[n] < errors[worst] { n } else { second });
        let centre = self.centre_without(worst);
        let between = |from: &[f64], to: &[f64], part: f64| -> Vec<f64> {
            from.iter().zip(to).map(|(from, to)| from + part * (to - from)).collect()
        };
        let mut reflected: Vec<f64> =
            centre.iter().zip(&self.vertices[worst]).map(|(centre, worst)| centre + (centre - worst)).collect();
        let error = model.error(&mut reflected);
        if error < self.errors[least] {
            let mut expanded = between(&centre, &reflected, 2.0);
            let expanded_error = model.error(&mut expanded);
            match expanded_error < error {
                true => self.replace(worst, expanded, expanded_error),
                false => self.replace(worst, reflected, error),
            }
        } else if error < self.errors[second] {
            self.replace(worst, reflected, error);
        } else {
            let mut contracted = match error < self.errors[worst] {
                true => between(&centre, &reflected, 0.5),
                false => between(&centre, &self.vertices[worst], 0.5),
            };
            let contracted_error = model.error(&mut contracted);
            if contracted_error < self.errors[worst] {
                self.replace(worst, contracted, contracted_error);
            } else {
                let best = self.vertices[least].clone();
                for (_, vertex) in self.vertices.iter_mut().enumerate().filter(|(n, _)| *n != least) {
                    *vertex = best.iter().zip(&*vertex).map(|(best, own)| best + (own - best) / 2.0).collect();
                }
                // Only these are looked at again, as in InfluxDB.
                self.errors[worst] = model.error(&mut self.vertices[worst]);
                self.errors[second] = model.error(&mut self.vertices[second]);
            }
        }
        self.moves += 1;
        self.stands_still() || self.moves == MOVES_MAX
    }

    fn centre_without(&self, left_out: usize) -> Vec<f64> {
        let count = self.vertices.len() - 1;
        let mut centre = vec![0.0; count];
        for (_, vertex) in self.vertices.iter().enumerate().filter(|(n, _)| *n != left_out) {
            centre.iter_mut().zip(vertex).for_each(|(sum, value)| *sum += value);
        }
        centre.iter_mut().for_each(|sum| *sum /= count as f64);
        centre
    }

    fn replace(&mut self, place: usize, vertex: Vec<f64>, error: f64) {
        self.vertices[place] = vertex;
        self.errors[place] = error;
    }

    fn stands_still(&self) -> bool {
        let count = self.errors.len() as f64;
        let mean = self.errors.iter().sum::<f64>() / count;
        let spread = self.errors.iter().map(|error| (error - mean).powi(2) / (count - 1.0)).sum::<f64>();
        spread.sqrt() < EPSILON
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecast(values: &[f64], forecast: Forecast) -> Vec<(i64, f64)> {
        let mut forecaster = Forecaster::new(forecast);
        values.iter().enumerate().for_each(|(n, value)| forecaster.push(n as i64 * forecast.interval, *value));
        loop {
            if let Some(points) = forecaster.step() {
                assert!(forecaster.step().unwrap().is_empty(), "it comes once");
                return points.iter().map(|point| (point.time, point.value.as_f64().unwrap())).collect();
            }
        }
    }

    #[test]
    fn what_comes_again_each_season_is_forecast() {
        let values: Vec<f64> = (0..24).map(|n| 10.0 + f64::from(n % 4)).collect();
        let points = forecast(&values, Forecast { count: 4, season: 4, with_fit: false, interval: 10 });
        assert_eq!(points.iter().map(|(time, _)| *time).collect::<Vec<_>>(), [240, 250, 260, 270]);
        for ((_, value), expected) in points.iter().zip([10.0, 11.0, 12.0, 13.0]) {
            assert!((value - expected).abs() < 1.5, "{points:?}");
        }
        let fitted = forecast(&values, Forecast { count: 4, season: 4, with_fit: true, interval: 10 });
        assert_eq!((fitted.len(), fitted[0]), (28, (0, 10.0)));
    }

    #[test]
    fn too_few_points_have_no_forecast() {
        let nothing: Vec<(i64, f64)> = Vec::new();
        assert_eq!(forecast(&[], Forecast { count: 1, season: 0, with_fit: false, interval: 10 }), nothing);
        assert_eq!(forecast(&[1.0], Forecast { count: 1, season: 0, with_fit: false, interval: 10 }), nothing);
        assert_eq!(forecast(&[1.0, 2.0], Forecast { count: 1, season: 4, with_fit: false, interval: 10 }), nothing);
    }
}
