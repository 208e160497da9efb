//! Functions from point to point of a series: small machines that remember what came before.

use std::collections::VecDeque;

use super::holt_winters::{Forecast, Forecaster};
use super::reduce::Point;
use super::technical::{Indicator, IndicatorState, WarmUp};
use super::value::{Type, Value, binary};
use crate::syntax::influxql::{Expression, Operator};

/// Which function.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Transform {
    /// Change per unit of time, in nanoseconds.
    Derivative {
        unit: i64,
        non_negative: bool,
    },
    Difference {
        non_negative: bool,
    },
    CumulativeSum,
    /// Of so many points.
    MovingAverage(usize),
    /// Time since the point before, in units of nanoseconds.
    Elapsed(i64),
    /// Technical analysis over a period of so many points; the first `hold` answers are left out.
    Technical {
        indicator: Indicator,
        period: usize,
        hold: usize,
        warm_up: WarmUp,
    },
    /// All points at once, and points after them.
    HoltWinters(Forecast),
}

/// The default unit of `derivative` of columns, in nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// The longest period of technical analysis, in points: some keep as many.
const PERIOD_MAX: usize = 1 << 20;

impl Transform {
    /// The function of this name, if it is one from point to point.
    pub(super) fn of(name: &str, arguments: &[Expression], interval: Option<i64>) -> Option<Self> {
        let unit = match arguments.get(1) {
            Some(Expression::Duration(unit)) => Some(*unit),
            _ => None,
        };
        Some(match (name, arguments) {
            ("derivative" | "non_negative_derivative", _) => Self::Derivative {
                unit: unit.or(interval).unwrap_or(SECOND),
                non_negative: name == "non_negative_derivative",
            },
            ("difference", _) => Self::Difference { non_negative: false },
            ("non_negative_difference", _) => Self::Difference { non_negative: true },
            ("cumulative_sum", _) => Self::CumulativeSum,
            ("elapsed", _) => Self::Elapsed(unit.unwrap_or(1)),
            ("moving_average", [_, Expression::Integer(count)]) => {
                Self::MovingAverage(usize::try_from(*count).unwrap_or(usize::MAX))
            }
            (
                "holt_winters" | "holt_winters_with_fit",
                [_, Expression::Integer(count), Expression::Integer(season)],
            ) => Self::HoltWinters(Forecast {
                count: usize::try_from(*count).unwrap_or_default(),
                season: usize::try_from(*season).unwrap_or_default(),
                with_fit: name == "holt_winters_with_fit",
                interval: interval.unwrap_or(SECOND),
            }),
            (name, [_, Expression::Integer(period), options @ ..]) => technical(name, *period, options)?,
            _ => return None,
        })
    }

    /// How it is called where it can't be made of a type.
    pub(super) fn refuses(&self, kind: Type) -> Option<&'static str> {
        let name = match self {
            Self::Elapsed(_) => return None,
            Self::Derivative { .. } => "derivative",
            Self::Difference { .. } => "difference",
            Self::CumulativeSum => "cumulative sum",
            Self::MovingAverage(_) => "moving average",
            Self::Technical { indicator, .. } => indicator.name(),
            Self::HoltWinters(_) => "holt winters",
        };
        matches!(kind, Type::String | Type::Boolean).then_some(name)
    }

    pub(super) fn kind(&self, argument: Type) -> Type {
        match self {
            Self::Derivative { .. } | Self::MovingAverage(_) | Self::Technical { .. } | Self::HoltWinters(_) => {
                Type::Float
            }
            Self::Elapsed(_) => Type::Integer,
            Self::Difference { .. } | Self::CumulativeSum => argument,
        }
    }

    /// Whether it reads the bucket before the range, so that the first one has something to be compared with.
    pub(super) fn looks_back(&self) -> bool {
        !matches!(self, Self::CumulativeSum | Self::HoltWinters(_))
    }

    pub(super) fn machine(&self) -> Machine {
        let indicator = match self {
            Self::Technical { indicator, period, warm_up, .. } => Some(indicator.state(*period, *warm_up)),
            _ => None,
        };
        let forecaster = match self {
            Self::HoltWinters(forecast) => Some(Box::new(Forecaster::new(*forecast))),
            _ => None,
        };
        Machine { previous: None, sum: None, window: VecDeque::new(), indicator, count: 0, forecaster }
    }
}

/// A function of technical analysis with its period, hold and warm-up.
fn technical(name: &str, period: i64, options: &[Expression]) -> Option<Transform> {
    let (hold, kind) = match options {
        [Expression::Integer(hold), Expression::String(kind)] => (*hold, kind.as_str()),
        [Expression::Integer(hold)] => (*hold, ""),
        _ => (-1, ""),
    };
    let warm_up = if kind == "simple" { WarmUp::Simple } else { WarmUp::Exponential };
    let indicator = Indicator::named(name, matches!(kind, "simple" | "exponential"))?;
    let period = usize::try_from(period).ok().filter(|period| *period > 0)?.min(PERIOD_MAX);
    let hold = usize::try_from(hold).unwrap_or_else(|_| indicator.hold(period, warm_up));
    Some(Transform::Technical { indicator, period, hold, warm_up })
}

/// What a function remembers of a series.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    previous: Option<(i64, Value)>,
    sum: Option<Value>,
    window: VecDeque<Value>,
    indicator: Option<IndicatorState>,
    /// How many points there were.
    count: usize,
    /// What answers once all points are there.
    pub(super) forecaster: Option<Box<Forecaster>>,
}

impl Machine {
    /// What comes out for a point. Empty ones are passed over.
    pub(super) fn next(&mut self, transform: &Transform, point: &Point, ascending: bool) -> Option<Point> {
        if point.value.is_null() {
            return None;
        }
        let value = match transform {
            Transform::Derivative { unit, non_negative } => {
                let (time, before) = self.advance(point)?;
                let change = match binary(Operator::Subtract, &point.value, &before) {
                    // Unsigned numbers may fall.
                    Value::Unsigned(_) => point.value.as_f64()? - before.as_f64()?,
                    change => change.as_f64()?,
                };
                let elapsed = if ascending { point.time - time } else { time - point.time };
                if *non_negative && change < 0.0 {
                    return None;
                }
                Value::Float(change / (elapsed as f64 / *unit as f64))
            }
            Transform::Difference { non_negative } => {
                let (_, before) = self.advance(point)?;
                let falls = point.value.order(&before).is_lt();
                if *non_negative && falls {
                    return None;
                }
                binary(Operator::Subtract, &point.value, &before)
            }
            Transform::CumulativeSum => {
                let sum = self.sum.take();
                let sum = sum.map_or_else(|| point.value.clone(), |sum| binary(Operator::Add, &sum, &point.value));
                self.sum = Some(sum.clone());
                sum
            }
            Transform::MovingAverage(count) => {
                self.window.push_back(point.value.clone());
                if self.window.len() > *count {
                    self.window.pop_front();
                }
                if self.window.len() < *count {
                    return None;
                }
                // Whole numbers are added as such.
                let values = self.window.iter().cloned();
                let sum = values.reduce(|sum, value| binary(Operator::Add, &sum, &value))?;
                Value::Float(sum.as_f64()? / *count as f64)
            }
            Transform::Elapsed(unit) => {
                let before = self.previous.replace((point.time, point.value.clone()));
                let (time, _) = before?;
                Value::Integer((point.time - time) / unit)
            }
            Transform::HoltWinters(_) => {
                self.forecaster.as_mut()?.push(point.time, point.value.as_f64()?);
                return None;
            }
            Transform::Technical { indicator, hold, .. } => {
                let value = self.indicator.as_mut()?.next(point.value.as_f64()?);
                self.count += 1;
                if self.count <= *hold || indicator.is_finite() && value.is_infinite() {
                    return None;
                }
                Value::Float(value)
            }
        };
        Some(Point { time: point.time, value, row: None })
    }

    /// The point before; a second point of one time is no step.
    fn advance(&mut self, point: &Point) -> Option<(i64, Value)> {
        if self.previous.as_ref().is_some_and(|(time, _)| *time == point.time) {
            return None;
        }
        self.previous.replace((point.time, point.value.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(transform: &Transform, points: &[(i64, Value)]) -> Vec<(i64, Value)> {
        let mut machine = transform.machine();
        let point = |(time, value): &(i64, Value)| Point { time: *time, value: value.clone(), row: None };
        points
            .iter()
            .filter_map(|known| machine.next(transform, &point(known), true))
            .map(|point| (point.time, point.value))
            .collect()
    }

    #[test]
    fn empty_points_are_passed_over() {
        let points = [(0, Value::Integer(1)), (10, Value::Null), (20, Value::Integer(5)), (20, Value::Integer(9))];
        let difference = Transform::Difference { non_negative: false };
        assert_eq!(run(&difference, &points), [(20, Value::Integer(4))]);
        let derivative = Transform::Derivative { unit: 10, non_negative: false };
        assert_eq!(run(&derivative, &points), [(20, Value::Float(2.0))]);
        assert_eq!(run(&Transform::Elapsed(1), &points), [(20, Value::Integer(20)), (20, Value::Integer(0))]);
        let sums = run(&Transform::CumulativeSum, &points);
        assert_eq!(sums, [(0, Value::Integer(1)), (20, Value::Integer(6)), (20, Value::Integer(15))]);
        assert_eq!(run(&Transform::MovingAverage(2), &points), [(20, Value::Float(3.0)), (20, Value::Float(7.0))]);
    }

    #[test]
    fn what_falls_is_left_out_where_only_rises_count() {
        let points = [(0, Value::Unsigned(5)), (10, Value::Unsigned(2)), (20, Value::Unsigned(3))];
        let derivative = |non_negative| Transform::Derivative { unit: 10, non_negative };
        assert_eq!(run(&derivative(false), &points), [(10, Value::Float(-3.0)), (20, Value::Float(1.0))]);
        assert_eq!(run(&derivative(true), &points), [(20, Value::Float(1.0))]);
        assert_eq!(run(&Transform::Difference { non_negative: true }, &points), [(20, Value::Unsigned(1))]);
    }
}
