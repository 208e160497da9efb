//! Cuts a text into tokens, with the places that InfluxDB 1 tells for them.
//!
//! Two of these places look odd and are kept, because clients and people compare them: that of a broken string or a
//! regular expression is the character before it, and the end of the text counts one further once it was looked at.

use super::token::{Kind, Position, Token};

/// Reads tokens from a text.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    /// Where the next character begins, in bytes.
    at: usize,
    position: Position,
    /// The place of the character that was read last.
    previous: Position,
    /// Whether the end was read, not only looked at.
    end_was_read: bool,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, position: Position::default(), previous: Position::default(), end_was_read: false }
    }

    /// The next character without reading it, line ends as `\n`.
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next().map(|next| if next == '\r' { '\n' } else { next })
    }

    fn peek_second(&self) -> Option<char> {
        self.text[self.at..].chars().nth(1)
    }

    fn read(&mut self) -> Option<char> {
        let Some(next) = self.text[self.at..].chars().next() else {
            self.read_end();
            return None;
        };
        self.previous = self.position;
        self.at += next.len_utf8();
        if next == '\r' && self.text[self.at..].starts_with('\n') {
            self.at += 1;
        }
        if matches!(next, '\r' | '\n') {
            self.position = Position { line: self.position.line + 1, char: 0 };
            return Some('\n');
        }
        self.position.char += 1;
        Some(next)
    }

    fn read_end(&mut self) {
        self.previous = self.position;
        if !self.end_was_read {
            self.position.char += 1;
            self.end_was_read = true;
        }
    }

    fn read_if(&mut self, wanted: char) -> bool {
        let is_next = self.peek() == Some(wanted);
        if is_next {
            self.read();
        }
        is_next
    }

    fn read_while(&mut self, belongs: impl Fn(char) -> bool, into: &mut String) {
        while let Some(next) = self.peek().filter(|next| belongs(*next)) {
            self.read();
            into.push(next);
        }
    }

    /// The next character, where it decides how to read on. At the end it counts as read.
    pub(super) fn look(&mut self) -> Option<char> {
        let next = self.peek();
        if next.is_none() {
            self.read_end();
        }
        next
    }

    /// The next token. Behind the end there is [`Kind::Eof`] for ever.
    pub(super) fn token(&mut self) -> Token {
        let position = self.position;
        let plain = |kind| Token { kind, position, text: String::new() };
        let Some(first) = self.peek() else {
            self.read_end();
            return plain(Kind::Eof);
        };
        if is_blank(first) {
            return self.blanks();
        }
        if is_letter(first) || first == '_' || first == '"' {
            return self.identifier(true);
        }
        if first.is_ascii_digit() || first == '.' && self.peek_second().is_some_and(|next| next.is_ascii_digit()) {
            return self.number();
        }
        if first == '\'' {
            return self.string();
        }
        self.read();
        let kind = match first {
            '.' => Kind::Dot,
            '$' => return self.parameter(position),
            '+' => Kind::Add,
            '-' if self.read_if('-') => {
                while self.read().is_some_and(|next| next != '\n') {}
                Kind::Comment
            }
            '-' => Kind::Subtract,
            '*' => Kind::Multiply,
            '/' if self.read_if('*') => self.comment(),
            '/' => Kind::Divide,
            '%' => Kind::Modulo,
            '&' => Kind::BitAnd,
            '|' => Kind::BitOr,
            '^' => Kind::BitXor,
            '=' if self.read_if('~') => Kind::Matches,
            '=' => Kind::Equal,
            '!' if self.read_if('=') => Kind::NotEqual,
            '!' if self.read_if('~') => Kind::MatchesNot,
            '>' if self.read_if('=') => Kind::GreaterOrEqual,
            '>' => Kind::Greater,
            '<' if self.read_if('=') => Kind::LessOrEqual,
            '<' if self.read_if('>') => Kind::NotEqual,
            '<' => Kind::Less,
            '(' => Kind::OpeningParenthesis,
            ')' => Kind::ClosingParenthesis,
            ',' => Kind::Comma,
            ';' => Kind::Semicolon,
            ':' if self.read_if(':') => Kind::DoubleColon,
            ':' => Kind::Colon,
            other => return Token { kind: Kind::Illegal, position, text: other.to_string() },
        };
        plain(kind)
    }

    fn blanks(&mut self) -> Token {
        let position = self.position;
        let mut text = String::new();
        self.read_while(is_blank, &mut text);
        self.look();
        Token { kind: Kind::Whitespace, position, text }
    }

    /// Behind `/*`. A comment that does not end is no comment.
    fn comment(&mut self) -> Kind {
        let mut star = false;
        loop {
            match self.read() {
                Some('/') if star => return Kind::Comment,
                Some(next) => star = next == '*',
                None => return Kind::Illegal,
            }
        }
    }

    fn identifier(&mut self, may_be_keyword: bool) -> Token {
        let position = self.position;
        if self.peek() == Some('"') {
            let token = self.string();
            return match token.kind {
                Kind::String => Token { kind: Kind::Identifier, position, text: token.text },
                _ => token,
            };
        }
        let mut text = String::new();
        self.read_while(is_identifier, &mut text);
        self.look();
        match Kind::keyword(&text).filter(|_| may_be_keyword) {
            Some(kind) => Token { kind, position, text: String::new() },
            None => Token { kind: Kind::Identifier, position, text },
        }
    }

    /// Behind `$`.
    fn parameter(&mut self, position: Position) -> Token {
        let name = self.identifier(false);
        let kind = if name.kind == Kind::Identifier { Kind::Parameter } else { name.kind };
        Token { kind, position, text: format!("${}", name.text) }
    }

    fn string(&mut self) -> Token {
        let before = self.previous;
        let bad = |text| Token { kind: Kind::BadString, position: before, text };
        let Some(quote) = self.read() else { return bad(String::new()) };
        let mut text = String::new();
        loop {
            match self.read() {
                Some(end) if end == quote => return Token { kind: Kind::String, position: before, text },
                None | Some('\n') => return bad(text),
                Some('\\') => match self.read() {
                    Some('n') => text.push('\n'),
                    Some(escaped @ ('\\' | '"' | '\'')) => text.push(escaped),
                    other => {
                        let text = format!("\\{}", other.map_or_else(String::new, String::from));
                        return Token { kind: Kind::BadEscape, position: self.previous, text };
                    }
                },
                Some(other) => text.push(other),
            }
        }
    }

    /// A number or a duration: `1`, `1.5`, `.5`, `1.`, `1h30m`. What is wrong with `1x` is for the parser to say.
    fn number(&mut self) -> Token {
        let position = self.position;
        let mut text = String::new();
        let is_digit = |next: char| next.is_ascii_digit();
        self.read_while(is_digit, &mut text);
        if self.read_if('.') {
            if self.peek().is_some_and(is_digit) {
                text.push('.');
                self.read_while(is_digit, &mut text);
            }
            return Token { kind: Kind::Number, position, text };
        }
        if self.peek().is_some_and(is_unit) {
            self.read_while(|next| is_unit(next) || is_digit(next), &mut text);
            return Token { kind: Kind::Duration, position, text };
        }
        Token { kind: Kind::Integer, position, text }
    }

    /// The regular expression that begins here with a slash. `\/` is a slash; other escapes are its own.
    pub(super) fn regex(&mut self) -> Token {
        let position = self.previous;
        let bad = Token { kind: Kind::BadRegex, position, text: String::new() };
        let mut text = String::new();
        self.read();
        loop {
            match self.read() {
                Some('/') => return Token { kind: Kind::Regex, position, text },
                None | Some('\n') => return bad,
                Some('\\') if self.read_if('/') => text.push('/'),
                Some(other) => text.push(other),
            }
        }
    }
}

pub(super) fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n')
}

fn is_letter(letter: char) -> bool {
    letter.is_ascii_alphabetic()
}

fn is_unit(letter: char) -> bool {
    is_letter(letter) || letter == 'µ'
}

/// Whether the letter may stand in a name without quotes.
pub(super) fn is_identifier(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}
