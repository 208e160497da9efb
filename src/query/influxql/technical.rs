//! Technical analysis: averages and oscillators over the points of a series.
//!
//! The recurrences are those that InfluxDB 1 takes from <https://stockcharts.com/school/> and TA-Lib, so that digits agree.

/// How an average begins, before it has seen a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WarmUp {
    /// Exponentially, with a weight that fits how many points there were.
    Exponential,
    /// As the mean of what there was.
    Simple,
}

/// Which function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Indicator {
    /// Exponential moving average.
    Ema,
    /// Double exponential moving average.
    Dema,
    /// Triple exponential moving average.
    Tema,
    /// Change of a triple exponential average, in percent.
    Trix,
    /// Relative strength index.
    Rsi,
    /// Kaufman's efficiency ratio.
    Ker,
    /// Kaufman's adaptive moving average.
    Kama,
    /// Chande's momentum oscillator, without smoothing.
    Cmo,
    /// Chande's momentum oscillator, smoothed.
    Cmos,
}

impl Indicator {
    /// The indicator of a function; `is_smoothed` counts for `chande_momentum_oscillator`.
    pub(super) fn named(name: &str, is_smoothed: bool) -> Option<Self> {
        Some(match name {
            "exponential_moving_average" => Self::Ema,
            "double_exponential_moving_average" => Self::Dema,
            "triple_exponential_moving_average" => Self::Tema,
            "triple_exponential_derivative" => Self::Trix,
            "relative_strength_index" => Self::Rsi,
            "kaufmans_efficiency_ratio" => Self::Ker,
            "kaufmans_adaptive_moving_average" => Self::Kama,
            "chande_momentum_oscillator" if is_smoothed => Self::Cmos,
            "chande_momentum_oscillator" => Self::Cmo,
            _ => return None,
        })
    }

    /// How errors call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ema => "exponential moving average",
            Self::Dema => "double exponential moving average",
            Self::Tema => "triple exponential moving average",
            Self::Trix => "triple exponential derivative",
            Self::Rsi => "relative strength index",
            Self::Ker => "kaufmans efficiency ratio",
            Self::Kama => "kaufmans adaptive moving average",
            Self::Cmo | Self::Cmos => "chande momentum oscillator",
        }
    }

    /// How many points pass before there is an answer, if the statement doesn't say.
    pub(super) fn hold(self, period: usize, warm_up: WarmUp) -> usize {
        let one = period - 1;
        let is_simple = warm_up == WarmUp::Simple;
        match self {
            Self::Ema | Self::Cmo => one,
            Self::Dema => {
                if is_simple {
                    2 * one
                } else {
                    one
                }
            }
            Self::Tema => {
                if is_simple {
                    3 * one
                } else {
                    one
                }
            }
            Self::Trix => {
                if is_simple {
                    3 * one + 1
                } else {
                    one + 1
                }
            }
            Self::Rsi | Self::Cmos | Self::Ker | Self::Kama => period,
        }
    }

    /// Whether an infinite answer is left out.
    pub(super) fn is_finite(self) -> bool {
        matches!(self, Self::Trix | Self::Ker | Self::Kama)
    }

    pub(super) fn state(self, period: usize, warm_up: WarmUp) -> IndicatorState {
        let average = || Average::new(period, 2.0 / (period as f64 + 1.0), warm_up);
        // Smoothed as by Wilder: slower than an exponential average.
        let slow = || Average::new(period + 1, 1.0 / period as f64, warm_up);
        match self {
            Self::Ema => IndicatorState::Averages(vec![average()]),
            Self::Dema => IndicatorState::Averages(vec![average(), average()]),
            Self::Tema => IndicatorState::Averages(vec![average(), average(), average()]),
            Self::Trix => IndicatorState::Trix { averages: vec![average(), average(), average()], last: 0.0 },
            Self::Rsi => IndicatorState::UpDown { up: slow(), down: slow(), last: 0.0, is_index: true },
            Self::Cmos => IndicatorState::UpDown { up: slow(), down: slow(), last: 0.0, is_index: false },
            Self::Ker => IndicatorState::Efficiency(Efficiency::new(period)),
            Self::Kama => IndicatorState::Adaptive { efficiency: Efficiency::new(period), last: 0.0 },
            Self::Cmo => IndicatorState::Momentum(Momentum::new(period)),
        }
    }
}

/// What an indicator remembers.
#[derive(Debug, Clone)]
pub(super) enum IndicatorState {
    Averages(Vec<Average>),
    Trix { averages: Vec<Average>, last: f64 },
    UpDown { up: Average, down: Average, last: f64, is_index: bool },
    Efficiency(Efficiency),
    Adaptive { efficiency: Efficiency, last: f64 },
    Momentum(Momentum),
}

impl IndicatorState {
    /// Takes a value and says what the indicator is now.
    pub(super) fn next(&mut self, value: f64) -> f64 {
        match self {
            Self::Averages(averages) => {
                let chain = chained(averages, value);
                match chain.as_slice() {
                    [one, two, three] => 3.0 * one - 3.0 * two + three,
                    [one, two] => 2.0 * one - two,
                    other => other.first().copied().unwrap_or(value),
                }
            }
            Self::Trix { averages, last } => {
                let now = chained(averages, value).last().copied().unwrap_or(value);
                let rate = (now / *last - 1.0) * 100.0;
                *last = now;
                rate
            }
            Self::UpDown { up, down, last, is_index } => {
                let change = value - *last;
                *last = value;
                let (up, down) = (up.next(change.max(0.0)), down.next((-change).max(0.0)));
                if *is_index { 100.0 - 100.0 / (1.0 + up / down) } else { 100.0 * ((up - down) / (up + down)) }
            }
            Self::Efficiency(efficiency) => efficiency.next(value),
            Self::Adaptive { efficiency, last } => {
                const FAST: f64 = 2.0 / (2.0 + 1.0);
                const SLOW: f64 = 2.0 / (30.0 + 1.0);
                if !efficiency.is_warm() {
                    *last = efficiency.newest();
                }
                let smoothing = (efficiency.next(value) * (FAST - SLOW) + SLOW).powi(2);
                *last += smoothing * (value - *last);
                *last
            }
            Self::Momentum(momentum) => momentum.next(value),
        }
    }
}

/// Averages of averages: each as it is after the value. One that is not warm yet passes its value on to none.
fn chained(averages: &mut [Average], value: f64) -> Vec<f64> {
    let mut chain = Vec::with_capacity(averages.len());
    let (mut value, mut goes_on) = (value, true);
    for average in averages {
        if goes_on {
            value = average.next(value);
            goes_on = average.is_warm() || average.warm_up == WarmUp::Exponential;
        }
        chain.push(value);
    }
    chain
}

/// An exponential average.
#[derive(Debug, Clone)]
pub(super) struct Average {
    period: usize,
    weight: f64,
    warm_up: WarmUp,
    count: usize,
    last: f64,
}

impl Average {
    fn new(period: usize, weight: f64, warm_up: WarmUp) -> Self {
        Self { period, weight, warm_up, count: 0, last: 0.0 }
    }

    fn is_warm(&self) -> bool {
        self.count == self.period
    }

    fn next(&mut self, value: f64) -> f64 {
        let count = self.count as f64;
        self.last = match (self.count, self.is_warm(), self.warm_up) {
            (0, _, _) => value,
            (_, true, _) => (value - self.last) * self.weight + self.last,
            (_, false, WarmUp::Simple) => (self.last * count + value) / (count + 1.0),
            (_, false, WarmUp::Exponential) => (value - self.last) * (2.0 / (count + 2.0)) + self.last,
        };
        self.count = (self.count + 1).min(self.period);
        self.last
    }
}

/// The last values in a ring, and how far each was from the one before.
#[derive(Debug, Clone)]
struct Ring {
    points: Vec<(f64, f64)>,
    newest: usize,
}

impl Ring {
    fn new(length: usize) -> Self {
        Self { points: vec![(0.0, 0.0); length.max(1)], newest: 0 }
    }

    fn newest(&self) -> f64 {
        self.points[self.newest].0
    }

    fn oldest(&self) -> (f64, f64) {
        self.points[(self.newest + 1) % self.points.len()]
    }

    fn push(&mut self, value: f64, change: f64) {
        self.newest = (self.newest + 1) % self.points.len();
        self.points[self.newest] = (value, change);
    }
}

#[derive(Debug, Clone)]
pub(super) struct Efficiency {
    ring: Ring,
    noise: f64,
    count: usize,
}

impl Efficiency {
    fn new(period: usize) -> Self {
        Self { ring: Ring::new(period), noise: 0.0, count: 0 }
    }

    fn is_warm(&self) -> bool {
        self.count == self.ring.points.len() + 1
    }

    fn newest(&self) -> f64 {
        self.ring.newest()
    }

    fn next(&mut self, value: f64) -> f64 {
        let (oldest, oldest_change) = self.ring.oldest();
        let (signal, change) = ((value - oldest).abs(), (value - self.ring.newest()).abs());
        self.noise -= oldest_change;
        self.noise += change;
        self.ring.push(value, change);
        if !self.is_warm() {
            self.count += 1;
        }
        if signal == 0.0 || self.noise == 0.0 { 0.0 } else { signal / self.noise }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Momentum {
    ring: Ring,
    up: f64,
    down: f64,
    is_first: bool,
}

impl Momentum {
    fn new(period: usize) -> Self {
        Self { ring: Ring::new(period - 1), up: 0.0, down: 0.0, is_first: true }
    }

    fn next(&mut self, value: f64) -> f64 {
        let change = if std::mem::replace(&mut self.is_first, false) { 0.0 } else { value - self.ring.newest() };
        self.up += change.max(0.0);
        self.down += (-change).max(0.0);
        let sum = self.up + self.down;
        let momentum = if sum == 0.0 { 0.0 } else { 100.0 * ((self.up - self.down) / sum) };
        let (_, oldest) = self.ring.oldest();
        self.up -= oldest.max(0.0);
        self.down -= (-oldest).max(0.0);
        self.ring.push(value, change);
        momentum
    }
}
