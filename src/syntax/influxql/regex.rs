//! Regular expressions with the meaning of RE2, which InfluxDB 1 gives them, on the engine of the crate `regex`.
//!
//! Both read nearly the same language. What they read differently is written anew: classes such as `\d` are of ASCII,
//! `\<` and `a{` are plain text, `\Q…\E` and octal numbers are known, `[a&&b]` is no intersection. What RE2 refuses is
//! refused, in its words. Neither looks around or back, so that time is linear in the text.

use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;
use std::sync::Arc;

/// The largest compiled program, in bytes. A pattern that needs more is refused.
const PROGRAM_BYTES_MAX: usize = 1 << 20;

/// The memory for states that a search makes as it goes, in bytes; past it, it goes on slower.
const CACHE_BYTES_MAX: usize = 1 << 20;

/// The most that one `{n}` may repeat.
const REPEAT_MAX: u32 = 1000;

/// Groups inside groups.
const DEPTH_MAX: u32 = 100;

/// Classes such as `\pL` in one pattern. Each is hundreds of ranges, even in a pattern that is refused then.
const UNICODE_CLASSES_MAX: u32 = 32;

/// A pattern that was checked.
#[derive(Clone)]
pub struct Regex {
    source: Arc<str>,
    program: Arc<regex::bytes::Regex>,
}

impl Regex {
    /// The pattern between the slashes.
    ///
    /// # Errors
    /// What is wrong with it, in the words of RE2.
    pub fn new(source: &str) -> Result<Self, String> {
        let translated = Translation::of(source).map_err(|error| format!("error parsing regexp: {error}"))?;
        let program = regex::bytes::RegexBuilder::new(&translated)
            .size_limit(PROGRAM_BYTES_MAX)
            .dfa_size_limit(CACHE_BYTES_MAX)
            .nest_limit(DEPTH_MAX * 2)
            .build();
        let program = program.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("error parsing regexp: expression too large: `{source}`"),
            _ => format!("error parsing regexp: invalid character class or group: `{source}`"),
        })?;
        Ok(Self { source: source.into(), program: Arc::new(program) })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether it matches somewhere in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.program.is_match(text.as_bytes())
    }

    /// The texts that it matches, if these are few and whole: `^a$`, `^(a|b)$`. Clients write lists so.
    pub fn alternatives(&self) -> Option<Vec<String>> {
        let inner = self.source.strip_prefix('^')?.strip_suffix('$')?;
        let grouped =
            inner.strip_prefix("(?:").or_else(|| inner.strip_prefix('(')).and_then(|rest| rest.strip_suffix(')'));
        match grouped {
            Some(list) => split_alternatives(list)?.into_iter().map(|text| literal(&text)).collect(),
            None => Some(vec![literal(inner)?]),
        }
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}

/// The parts between the `|` that are not escaped.
fn split_alternatives(list: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut letters = list.chars();
    while let Some(letter) = letters.next() {
        let last = parts.last_mut()?;
        match letter {
            '|' => parts.push(String::new()),
            '\\' => {
                last.push('\\');
                last.push(letters.next()?);
            }
            other => last.push(other),
        }
    }
    Some(parts)
}

/// The text that the pattern stands for, if it is one.
fn literal(pattern: &str) -> Option<String> {
    let mut text = String::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => text.push(letters.next().filter(char::is_ascii_punctuation)?),
            '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' => return None,
            other => text.push(other),
        }
    }
    Some(text)
}

/// What a repetition would repeat.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Before {
    /// Nothing: the pattern or group begins here.
    Nothing,
    Atom,
    /// A repetition that begins at this byte.
    Repetition(usize),
}

struct Translation<'a> {
    source: &'a str,
    letters: Peekable<CharIndices<'a>>,
    before: Before,
    depth: u32,
    unicode_classes: u32,
    out: String,
}

impl<'a> Translation<'a> {
    fn of(source: &'a str) -> Result<String, String> {
        let letters = source.char_indices().peekable();
        let mut translation =
            Self { source, letters, before: Before::Nothing, depth: 0, unicode_classes: 0, out: String::new() };
        while let Some((at, letter)) = translation.letters.next() {
            translation.letter(at, letter)?;
        }
        match translation.depth {
            0 => Ok(translation.out),
            _ => Err(format!("missing closing ): `{source}`")),
        }
    }

    fn at(&mut self) -> usize {
        self.letters.peek().map_or(self.source.len(), |(at, _)| *at)
    }

    fn next_if(&mut self, wanted: char) -> bool {
        self.letters.next_if(|(_, letter)| *letter == wanted).is_some()
    }

    fn skip_to(&mut self, end: usize) {
        while self.letters.next_if(|(at, _)| *at < end).is_some() {}
    }

    fn letter(&mut self, at: usize, letter: char) -> Result<(), String> {
        match letter {
            '(' => return self.group(at),
            ')' if self.depth == 0 => return Err(format!("unexpected ): `{}`", self.source)),
            ')' => {
                self.depth -= 1;
                self.out.push(')');
            }
            '|' => {
                self.out.push('|');
                self.before = Before::Nothing;
                return Ok(());
            }
            '*' | '+' | '?' => return self.repetition(at, at + 1),
            '{' => match self.counted(at)? {
                Some(end) => return self.repetition(at, end),
                None => self.out.push_str("\\{"),
            },
            '[' => self.class(at)?,
            '.' | '^' | '$' => self.out.push(letter),
            '\\' => self.escape(at)?,
            other => self.out.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
        self.before = Before::Atom;
        Ok(())
    }

    /// A repetition that is written from `at` to `end`, and a `?` behind it.
    fn repetition(&mut self, at: usize, end: usize) -> Result<(), String> {
        self.skip_to(end);
        self.next_if('?');
        let end = self.at();
        match self.before {
            Before::Nothing => Err(format!("missing argument to repetition operator: `{}`", &self.source[at..end])),
            Before::Repetition(start) => {
                Err(format!("invalid nested repetition operator: `{}`", &self.source[start..end]))
            }
            Before::Atom => {
                self.out.push_str(&self.source[at..end]);
                self.before = Before::Repetition(at);
                Ok(())
            }
        }
    }

    /// Where the `{n,m}` that begins at `at` ends; `None` if there is none.
    fn counted(&self, at: usize) -> Result<Option<usize>, String> {
        let Some(length) = self.source[at..].find('}') else { return Ok(None) };
        let (end, inner) = (at + length + 1, &self.source[at + 1..at + length]);
        let is_number = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|digit| digit.is_ascii_digit())
                && (text == "0" || !text.starts_with('0'))
        };
        let (least, most) = inner.split_once(',').unwrap_or((inner, inner));
        if !is_number(least) || !(is_number(most) || most.is_empty()) {
            return Ok(None);
        }
        let count = |text: &str| text.parse::<u32>().ok().filter(|count| *count <= REPEAT_MAX);
        let fits = match (count(least), count(most)) {
            (Some(_), None) => most.is_empty(),
            (Some(least), Some(most)) => least <= most,
            (None, _) => false,
        };
        if fits { Ok(Some(end)) } else { Err(format!("invalid repeat count: `{}`", &self.source[at..end])) }
    }

    /// Behind `(`.
    fn group(&mut self, at: usize) -> Result<(), String> {
        let flags_only = if self.next_if('?') { self.group_head(at)? } else { self.open("(") };
        if flags_only {
            // `a(?i)*` repeats the a in RE2; nothing is lost by refusing it.
            self.before = Before::Nothing;
            return Ok(());
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("expression nests too deeply: `{}`", self.source));
        }
        self.before = Before::Nothing;
        Ok(())
    }

    fn open(&mut self, text: &str) -> bool {
        self.out.push_str(text);
        false
    }

    /// Behind `(?`: a name, or flags. Returns whether there is no group, only flags for what follows.
    fn group_head(&mut self, at: usize) -> Result<bool, String> {
        if self.source[at..].starts_with("(?P<") {
            let rest = &self.source[at + 4..];
            let Some(length) = rest.find('>') else {
                return Err(format!("invalid named capture: `{}`", &self.source[at..]));
            };
            let (name, end) = (&rest[..length], at + 4 + length + 1);
            let is_name =
                !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
            if !is_name {
                return Err(format!("invalid named capture: `{}`", &self.source[at..end]));
            }
            self.skip_to(end);
            // Captures are never asked for, so that their names don't matter.
            return Ok(self.open("("));
        }
        let mut flags = String::new();
        let mut negated = false;
        loop {
            let unsupported = |end: usize| format!("invalid or unsupported Perl syntax: `{}`", &self.source[at..end]);
            match self.letters.next() {
                Some((_, letter @ ('i' | 'm' | 's' | 'U'))) => flags.push(letter),
                Some((_, '-')) if !negated => {
                    negated = true;
                    flags.push('-');
                }
                Some((end, letter @ (':' | ')'))) => {
                    if flags.ends_with('-') {
                        return Err(unsupported(end + 1));
                    }
                    if !(flags.is_empty() && letter == ')') {
                        self.out.push_str(&format!("(?{flags}{letter}"));
                    }
                    return Ok(letter == ')');
                }
                Some((end, letter)) => return Err(unsupported(end + letter.len_utf8())),
                None => return Err(format!("missing closing ): `{}`", self.source)),
            }
        }
    }

    /// Behind a `\` that is in no class.
    fn escape(&mut self, at: usize) -> Result<(), String> {
        match self.letters.peek().map(|(_, letter)| *letter) {
            Some('A') => self.take("\\A"),
            Some('z') => self.take("\\z"),
            Some('b') => self.take("(?-u:\\b)"),
            Some('B') => self.take("(?-u:\\B)"),
            Some('Q') => {
                self.letters.next();
                let start = self.at();
                let quoted = self.source[start..].find("\\E").map_or(self.source.len(), |length| start + length);
                self.out.push_str("(?:");
                self.out.push_str(&regex::escape(&self.source[start..quoted]));
                self.out.push(')');
                self.skip_to(quoted + 2);
            }
            Some(letter) if ascii_class(letter).is_some() => {
                self.letters.next();
                self.out.push_str(&format!("[{}]", ascii_class(letter).unwrap_or_default()));
            }
            Some('p' | 'P') => {
                let class = self.unicode_class(at)?;
                self.out.push_str(&class);
            }
            _ => {
                let letter = self.escaped_letter(at)?;
                self.out.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4])));
            }
        }
        Ok(())
    }

    fn take(&mut self, written: &str) {
        self.letters.next();
        self.out.push_str(written);
    }

    /// At the `p` of `\pL`, `\p{Greek}`, `\p{^Greek}`.
    fn unicode_class(&mut self, at: usize) -> Result<String, String> {
        let mut negated = self.letters.next().is_some_and(|(_, letter)| letter == 'P');
        let start = self.at();
        let rest = &self.source[start..];
        let invalid = |end: usize| format!("invalid character class range: `{}`", &self.source[at..end]);
        let (name, end) = match rest.strip_prefix('{') {
            Some(inner) => {
                let length = inner.find('}').ok_or_else(|| invalid(self.source.len()))?;
                (&inner[..length], start + length + 2)
            }
            None => {
                let length = rest.chars().next().ok_or_else(|| invalid(self.source.len()))?.len_utf8();
                (&rest[..length], start + length)
            }
        };
        let name = match name.strip_prefix('^') {
            Some(name) => {
                negated = !negated;
                name
            }
            None => name,
        };
        let is_name = !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphabetic() || letter == '_');
        self.unicode_classes += 1;
        if self.unicode_classes > UNICODE_CLASSES_MAX {
            return Err(format!("expression too large: `{}`", self.source));
        }
        let class = format!("\\{}{{{}}}", if negated { 'P' } else { 'p' }, if name == "Any" { "any" } else { name });
        if !is_name || regex::Regex::new(&class).is_err() {
            return Err(invalid(end));
        }
        self.skip_to(end);
        Ok(class)
    }

    /// Behind a `\` that stands for one character.
    fn escaped_letter(&mut self, at: usize) -> Result<char, String> {
        let Some((start, letter)) = self.letters.next() else {
            return Err("trailing backslash at end of expression: ``".to_owned());
        };
        let invalid = |end: usize| format!("invalid escape sequence: `{}`", &self.source[at..end]);
        let is_octal = |letter: char| ('0'..='7').contains(&letter);
        let letter_end = start + letter.len_utf8();
        match letter {
            'a' => Ok('\x07'),
            'f' => Ok('\x0c'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\x0b'),
            // A single digit other than 0 would look back at a group.
            '1'..='7' if !self.letters.peek().is_some_and(|(_, next)| is_octal(*next)) => Err(invalid(letter_end)),
            '0'..='7' => {
                let mut code = letter.to_digit(8).unwrap_or_default();
                for _ in 0..2 {
                    let Some((_, digit)) = self.letters.next_if(|(_, next)| is_octal(*next)) else { break };
                    code = code * 8 + digit.to_digit(8).unwrap_or_default();
                }
                char::from_u32(code).ok_or_else(|| invalid(letter_end))
            }
            'x' => {
                let rest = &self.source[letter_end..];
                let (digits, end) = match rest.strip_prefix('{') {
                    Some(inner) => {
                        let length = inner.find('}').ok_or_else(|| invalid(self.source.len()))?;
                        (&inner[..length], letter_end + length + 2)
                    }
                    None => (rest.get(..2).ok_or_else(|| invalid(letter_end))?, letter_end + 2),
                };
                let is_hexadecimal = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                let code = u32::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal);
                let letter = code.and_then(char::from_u32).ok_or_else(|| invalid(end.min(self.source.len())))?;
                self.skip_to(end);
                Ok(letter)
            }
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => Ok(other),
            _ => Err(invalid(letter_end)),
        }
    }

    /// Behind `[`.
    fn class(&mut self, at: usize) -> Result<(), String> {
        let unclosed = || format!("missing closing ]: `{}`", &self.source[at..]);
        let mut class = String::from("[");
        if self.next_if('^') {
            class.push('^');
        }
        let mut is_first = true;
        loop {
            let start = self.at();
            match self.letters.peek().map(|(_, letter)| *letter) {
                None => return Err(unclosed()),
                Some(']') if !is_first => {
                    self.letters.next();
                    class.push(']');
                    self.out.push_str(&class);
                    return Ok(());
                }
                Some('[') if self.source[start..].starts_with("[:") && self.source[start..].contains(":]") => {
                    class.push_str(&self.named_class(start)?);
                }
                Some('\\') if self.source[start + 1..].starts_with(['p', 'P']) => {
                    self.letters.next();
                    class.push_str(&self.unicode_class(start)?);
                }
                Some('\\')
                    if self.source[start + 1..].chars().next().is_some_and(|next| ascii_class(next).is_some()) =>
                {
                    self.letters.next();
                    let (_, letter) = self.letters.next().ok_or_else(unclosed)?;
                    class.push_str(ascii_class(letter).unwrap_or_default());
                }
                Some(_) => self.range(start, &mut class)?,
            }
            is_first = false;
        }
    }

    fn named_class(&mut self, start: usize) -> Result<String, String> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
            "word", "xdigit",
        ];
        let end = start + self.source[start..].find(":]").unwrap_or_default() + 2;
        let written = &self.source[start..end];
        let name = written.trim_start_matches("[:").trim_end_matches(":]");
        if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(format!("invalid character class range: `{written}`"));
        }
        self.skip_to(end);
        Ok(written.to_owned())
    }

    /// `a` or `a-z` in a class.
    fn range(&mut self, start: usize, class: &mut String) -> Result<(), String> {
        let first = self.class_letter()?;
        let is_range = self.source[self.at()..].starts_with('-') && !self.source[self.at() + 1..].starts_with(']');
        let last = if is_range && self.at() + 1 < self.source.len() {
            self.letters.next();
            self.class_letter()?
        } else {
            first
        };
        if last < first {
            return Err(format!("invalid character class range: `{}`", &self.source[start..self.at()]));
        }
        class.push_str(&format!("\\x{{{:x}}}-\\x{{{:x}}}", u32::from(first), u32::from(last)));
        Ok(())
    }

    fn class_letter(&mut self) -> Result<char, String> {
        match self.letters.next() {
            Some((at, '\\')) => self.escaped_letter(at),
            Some((_, letter)) => Ok(letter),
            None => Err(format!("missing closing ]: `{}`", self.source)),
        }
    }
}

/// The characters of `\d` and its like, as they stand in a class: of ASCII, and their opposites of all.
fn ascii_class(letter: char) -> Option<&'static str> {
    match letter {
        'd' => Some("0-9"),
        'D' => Some("\\x00-/:-\\x{10ffff}"),
        's' => Some("\\t\\n\\x0c\\r "),
        'S' => Some("\\x00-\\x08\\x0b\\x0e-\\x1f!-\\x{10ffff}"),
        'w' => Some("0-9A-Za-z_"),
        'W' => Some("\\x00-/:-@\\[-\\^`\\{-\\x{10ffff}"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], other: &[&str]) {
        let regex = Regex::new(pattern).unwrap();
        for text in matching {
            assert!(regex.is_match(text), "/{pattern}/ should match {text:?}");
        }
        for text in other {
            assert!(!regex.is_match(text), "/{pattern}/ should not match {text:?}");
        }
    }

    #[test]
    fn most_patterns_mean_the_same_in_both_engines() {
        check("^cpu$", &["cpu"], &["cpu0", "CPU"]);
        check("(?i)cpu|mem", &["CPU", "xMem"], &["disk"]);
        check("^a.c$", &["abc", "a-c"], &["a\nc"]);
        check("(?s)^a.c$", &["a\nc"], &[]);
        check("^[a-c]+?x{2,3}$", &["abxx", "cxxx"], &["xx", "ax"]);
        check("\\pL{2}", &["éà"], &["1é"]);
        check("[[:alpha:]_]+[^[:digit:]]", &["a_"], &["1"]);
        check("(?P<name>a)(?:b)", &["ab"], &["a"]);
        check("(?U)a+", &["aa"], &["b"]);
        check("", &["", "x"], &[]);
    }

    #[test]
    fn classes_are_of_ascii() {
        check("^\\d$", &["7"], &["٣"]);
        check("^\\w$", &["a", "_"], &["é", "-"]);
        check("^\\W$", &["é", "-"], &["a", "_"]);
        check("^\\s$", &["\t", " "], &["\u{a0}", "\x0b"]);
        check("^\\S$", &["\u{a0}", "\x0b", "a"], &["\t", " "]);
        check("^[\\d\\W]$", &["1", "é"], &["a"]);
        check("é\\b", &["éa"], &["é"]);
        check("^\\D\\S$", &["ab"], &["1b"]);
    }

    #[test]
    fn what_is_plain_text_in_re2_stays_plain() {
        check("\\<b\\>", &["<b>"], &["b"]);
        check("^a{$", &["a{"], &["a"]);
        check("^{,3}$", &["{,3}"], &["", "aaa"]);
        check("^a{01}$", &["a{01}"], &["a"]);
        check("^\\Qa.b\\E+$", &["a.b"], &["axb"]);
        check("\\101", &["A"], &["101"]);
        check("^\\x41\\x{42}$", &["AB"], &[]);
        check("^[a&&b]+$", &["a&b"], &["c"]);
        check("^[+--b]+$", &["+,-b"], &["a"]);
        check("^[]a]+$", &["]a"], &["b"]);
        check("^[[]$", &["["], &["]"]);
        check("^[a-]+$", &["-a"], &["b"]);
        check("a#b c", &["a#b c"], &["abc"]);
        check("\\/\\:\\-\\_\\@", &["/:-_@"], &[]);
    }

    #[test]
    fn what_re2_refuses_is_refused_in_its_words() {
        for (pattern, message) in [
            ("(", "missing closing ): `(`"),
            ("a)", "unexpected ): `a)`"),
            ("*", "missing argument to repetition operator: `*`"),
            ("a|+", "missing argument to repetition operator: `+`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a++", "invalid nested repetition operator: `++`"),
            ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{3,2}", "invalid repeat count: `{3,2}`"),
            ("[a", "missing closing ]: `[a`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("[a--b]", "invalid character class range: `a--`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
            ("\\y", "invalid escape sequence: `\\y`"),
            ("(a)\\1", "invalid escape sequence: `\\1`"),
            ("\\pX", "invalid character class range: `\\pX`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
            ("(?<n>a)", "invalid or unsupported Perl syntax: `(?<`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?P<n", "invalid named capture: `(?P<n`"),
        ] {
            assert_eq!(Regex::new(pattern).map(|_| ()), Err(format!("error parsing regexp: {message}")), "{pattern}");
        }
    }

    #[test]
    fn a_program_has_a_bound() {
        let error = Regex::new("((a{1000}){1000}){1000}").unwrap_err();
        assert!(error.contains("too large"), "{error}");
        assert!(Regex::new(&"(".repeat(10_000)).is_err());
        assert!(Regex::new(&"\\pL".repeat(8)).is_ok());
        assert!(Regex::new(&"\\pL".repeat(33)).unwrap_err().contains("too large"));
    }

    #[test]
    fn a_list_of_whole_words_is_known_as_one() {
        let alternatives = |pattern: &str| Regex::new(pattern).unwrap().alternatives();
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(alternatives("^a$"), words(&["a"]));
        assert_eq!(alternatives("^(a|b-1)$"), words(&["a", "b-1"]));
        assert_eq!(alternatives("^(?:a|)$"), words(&["a", ""]));
        assert_eq!(alternatives("^a\\.b$"), words(&["a.b"]));
        assert_eq!(alternatives("^$"), words(&[""]));
        for pattern in
            ["a", "^a", "^a|b$", "^(a|b)|(c|d)$", "^a.*$", "^(a|b+)$", "^\\d$", "^(?i)a$", "^(?P<n>a)$", "^a\\$"]
        {
            assert_eq!(alternatives(pattern), None, "{pattern}");
        }
    }
}
