//! Statements in parts, so that one whose answers differ can be made smaller.

use std::fmt::Write;

/// What is asked.
#[derive(Debug, Clone)]
pub enum Statement {
    Select(Select),
    /// The clauses of a `SHOW`, of which all but the first can go.
    Show(Vec<String>),
}

/// A `SELECT` in parts.
#[derive(Debug, Clone)]
pub struct Select {
    pub fields: Vec<Field>,
    pub sources: Vec<Source>,
    pub conditions: Vec<String>,
    pub is_or: bool,
    pub groups: Vec<String>,
    /// What stands behind the dimensions, in order: fill, order, limits, zone.
    pub clauses: Vec<String>,
}

/// A field, and smaller ones that can stand in its place.
#[derive(Debug, Clone)]
pub struct Field {
    pub text: String,
    pub parts: Vec<Field>,
}

#[derive(Debug, Clone)]
pub enum Source {
    Name(String),
    Query(Box<Select>),
}

impl Statement {
    pub fn text(&self) -> String {
        match self {
            Self::Select(select) => select.text(),
            Self::Show(clauses) => clauses.join(" "),
        }
    }

    /// The statement without the clauses that begin with one of these words, in subqueries too.
    pub fn without_clauses(&self, words: &[&str]) -> Self {
        match self {
            Self::Select(select) => Self::Select(select.without_clauses(words)),
            Self::Show(clauses) => Self::Show(other_clauses(clauses, words)),
        }
    }

    /// Statements with one part less.
    pub fn smaller(&self) -> Vec<Self> {
        match self {
            Self::Select(select) => {
                select.smaller().into_iter().filter(|select| select.ends(false)).map(Self::Select).collect()
            }
            Self::Show(clauses) => (1..clauses.len()).map(|n| Self::Show(without(clauses, n))).collect(),
        }
    }
}

fn without<T: Clone>(all: &[T], place: usize) -> Vec<T> {
    all.iter().enumerate().filter(|(n, _)| *n != place).map(|(_, one)| one.clone()).collect()
}

fn other_clauses(clauses: &[String], words: &[&str]) -> Vec<String> {
    let begins = |clause: &String| words.iter().any(|word| clause.split(' ').next() == Some(word));
    clauses.iter().filter(|clause| !begins(clause)).cloned().collect()
}

impl Select {
    fn without_clauses(&self, words: &[&str]) -> Self {
        let sources = self.sources.iter().map(|source| match source {
            Source::Name(name) => Source::Name(name.clone()),
            Source::Query(query) => Source::Query(Box::new(query.without_clauses(words))),
        });
        Self { sources: sources.collect(), clauses: other_clauses(&self.clauses, words), ..self.clone() }
    }

    fn text(&self) -> String {
        let fields: Vec<_> = self.fields.iter().map(|field| field.text.as_str()).collect();
        let sources = self.sources.iter().map(|source| match source {
            Source::Name(name) => name.clone(),
            Source::Query(query) => format!("({})", query.text()),
        });
        let mut text = format!("SELECT {} FROM {}", fields.join(", "), sources.collect::<Vec<_>>().join(", "));
        if !self.conditions.is_empty() {
            let _ = write!(text, " WHERE {}", self.conditions.join(if self.is_or { " OR " } else { " AND " }));
        }
        if !self.groups.is_empty() {
            let _ = write!(text, " GROUP BY {}", self.groups.join(", "));
        }
        for clause in &self.clauses {
            let _ = write!(text, " {clause}");
        }
        text
    }

    /// Whether its buckets end, so that there are not as many as there were since 2024.
    fn ends(&self, outside_ends: bool) -> bool {
        let ends = outside_ends || self.conditions.iter().any(|condition| condition.starts_with("time <"));
        let has_buckets = self.groups.iter().any(|group| group.starts_with("time("));
        let inside = self.sources.iter().all(|source| match source {
            Source::Name(_) => true,
            Source::Query(query) => query.ends(ends),
        });
        (ends || !has_buckets) && inside
    }

    fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        // A subquery in the place of the whole.
        all.extend(self.sources.iter().filter_map(|source| match source {
            Source::Query(query) => Some((**query).clone()),
            Source::Name(_) => None,
        }));
        for n in 0..self.clauses.len() {
            all.push(Self { clauses: without(&self.clauses, n), ..self.clone() });
        }
        for n in 0..self.conditions.len() {
            all.push(Self { conditions: without(&self.conditions, n), ..self.clone() });
        }
        for n in 0..self.groups.len() {
            all.push(Self { groups: without(&self.groups, n), ..self.clone() });
        }
        if self.sources.len() > 1 {
            all.extend((0..self.sources.len()).map(|n| Self { sources: without(&self.sources, n), ..self.clone() }));
        }
        if self.fields.len() > 1 {
            all.extend((0..self.fields.len()).map(|n| Self { fields: without(&self.fields, n), ..self.clone() }));
        }
        for (n, field) in self.fields.iter().enumerate() {
            for part in &field.parts {
                let mut smaller = self.clone();
                smaller.fields[n] = part.clone();
                all.push(smaller);
            }
        }
        for (n, source) in self.sources.iter().enumerate() {
            let Source::Query(query) = source else { continue };
            for inner in query.smaller() {
                let mut smaller = self.clone();
                smaller.sources[n] = Source::Query(Box::new(inner));
                all.push(smaller);
            }
        }
        all
    }
}
