//! Taking one conversion specification apart.

use super::Arguments;

/// Widths and precisions beyond this are cut: nothing a driver means to print is wider, and a width read from
/// garbage must not keep the host busy.
const WIDTH_MAX: usize = 0xFFFF;

/// A conversion specification, without its percent sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    /// `-`
    pub left: bool,
    /// `+`
    pub plus: bool,
    /// A blank.
    pub space: bool,
    /// `#`
    pub alternate: bool,
    /// `0`
    pub zero: bool,
    pub width: usize,
    pub precision: Option<usize>,
    pub size: Size,
    pub conversion: Conversion,
}

/// The argument's size, as the prefix says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// None: 32 bits.
    Default,
    /// `hh`: 8 bits.
    Byte,
    /// `h`: 16 bits, or characters of one byte.
    Short,
    /// `l`: 32 bits, as `long` is for Windows; characters of two bytes.
    Long,
    /// `w`: characters of two bytes.
    Wide,
    /// `ll`, `I64`, `I`, `z`, `t`, `j`: 64 bits.
    Quad,
}

/// What the letter asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conversion {
    /// `d`, `i`
    Signed,
    /// `u`, `o`, `x`, `X`
    Unsigned { base: u8, upper: bool },
    /// `p`
    Pointer,
    /// `e`, `E`, `f`, `F`, `g`, `G`
    Float(u8),
    /// `c`, `C`; `opposite` is the capital letter.
    Character { opposite: bool },
    /// `s`, `S`
    String { opposite: bool },
    /// `Z`
    Counted,
    /// `n`
    Count,
}

impl Directive {
    /// Reads a specification from `rest`, which begins behind the percent sign, and gives what follows it. `None`
    /// if the letter is no conversion: then the rest begins with that letter.
    pub fn parse<'t>(rest: &'t [u16], arguments: &mut impl Arguments) -> (Option<Self>, &'t [u16]) {
        let mut scan = Scan(rest);
        let mut directive = Self {
            left: false,
            plus: false,
            space: false,
            alternate: false,
            zero: false,
            width: 0,
            precision: None,
            size: Size::Default,
            conversion: Conversion::Signed,
        };
        while let Some(flag) = scan.take_if(|letter| b"-+ #0".contains(&letter)) {
            match flag {
                b'-' => directive.left = true,
                b'+' => directive.plus = true,
                b' ' => directive.space = true,
                b'#' => directive.alternate = true,
                _ => directive.zero = true,
            }
        }
        if scan.take_if(|letter| letter == b'*').is_some() {
            let width = arguments.next() as i32;
            // A negative width is the flag `-` and its absolute value.
            directive.left |= width < 0;
            directive.width = (width.unsigned_abs() as usize).min(WIDTH_MAX);
        } else {
            directive.width = scan.number();
        }
        if scan.take_if(|letter| letter == b'.').is_some() {
            directive.precision = if scan.take_if(|letter| letter == b'*').is_some() {
                // A negative precision counts as none.
                usize::try_from(arguments.next() as i32).ok().map(|precision| precision.min(WIDTH_MAX))
            } else {
                Some(scan.number())
            };
        }
        directive.size = scan.size();
        match scan.conversion() {
            Some(conversion) => {
                directive.conversion = conversion;
                (Some(directive), scan.0)
            }
            None => (None, scan.0),
        }
    }
}

struct Scan<'t>(&'t [u16]);

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.0.first().and_then(|&unit| u8::try_from(unit).ok())
    }

    fn take_if(&mut self, wanted: impl Fn(u8) -> bool) -> Option<u8> {
        let letter = self.peek().filter(|&letter| wanted(letter))?;
        self.0 = &self.0[1..];
        Some(letter)
    }

    fn number(&mut self) -> usize {
        let mut number = 0;
        while let Some(digit) = self.take_if(|letter| letter.is_ascii_digit()) {
            number = (number * 10 + usize::from(digit - b'0')).min(WIDTH_MAX);
        }
        number
    }

    fn size(&mut self) -> Size {
        let Some(prefix) = self.take_if(|letter| b"hlwIzjtL".contains(&letter)) else { return Size::Default };
        match prefix {
            b'h' if self.take_if(|letter| letter == b'h').is_some() => Size::Byte,
            b'h' => Size::Short,
            b'l' if self.take_if(|letter| letter == b'l').is_some() => Size::Quad,
            b'l' => Size::Long,
            b'w' => Size::Wide,
            b'I' => self.bits(),
            _ => Size::Quad,
        }
    }

    /// What follows `I`: `64`, `32`, or nothing for the size of a pointer.
    fn bits(&mut self) -> Size {
        for (digits, size) in [([b'6', b'4'], Size::Quad), ([b'3', b'2'], Size::Long)] {
            if self.0.len() >= 2 && self.0[..2] == digits.map(u16::from) {
                self.0 = &self.0[2..];
                return size;
            }
        }
        Size::Quad
    }

    fn conversion(&mut self) -> Option<Conversion> {
        let conversion = match self.peek()? {
            b'd' | b'i' => Conversion::Signed,
            b'u' => Conversion::Unsigned { base: 10, upper: false },
            b'o' => Conversion::Unsigned { base: 8, upper: false },
            b'x' => Conversion::Unsigned { base: 16, upper: false },
            b'X' => Conversion::Unsigned { base: 16, upper: true },
            b'p' => Conversion::Pointer,
            letter @ (b'e' | b'E' | b'f' | b'F' | b'g' | b'G') => Conversion::Float(letter),
            b'c' => Conversion::Character { opposite: false },
            b'C' => Conversion::Character { opposite: true },
            b's' => Conversion::String { opposite: false },
            b'S' => Conversion::String { opposite: true },
            b'Z' => Conversion::Counted,
            b'n' => Conversion::Count,
            _ => return None,
        };
        self.0 = &self.0[1..];
        Some(conversion)
    }
}
