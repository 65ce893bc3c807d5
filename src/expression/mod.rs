//! Expressions, `#[...]`: the part of DataWeave that policies take.
//!
//! They compile once, to a tree whose names and selectors are resolved; evaluating borrows from the exchange and makes
//! only new strings. What a client sends decides neither how deep nor how long nor how large an evaluation becomes.

mod lexer;
mod parser;
mod tree;

mod function;

mod data;
mod json;
mod payload;
mod xml;

mod context;
pub mod query;
mod value;

mod budget;
mod call;
mod evaluate;
mod print;

use std::fmt::{self, Display, Formatter};

pub use self::{
    budget::{Budget, OUTPUT_BYTES_MAX, STEPS_MAX},
    context::{Context, join},
    data::{Datum, Element, Number, Object},
    payload::{Format, Payload},
    value::{List, Members, Value},
};
use self::{
    evaluate::Evaluator,
    tree::{At, Node},
};

/// A longer text is refused.
pub const TEXT_BYTES_MAX: usize = 16 << 10;
/// Expressions in one another; of a chain of `++`, `and` or `or` all operands lie side by side.
pub const DEPTH_MAX: usize = 64;

/// A compiled expression. Two are equal where they do the same in the same way.
#[derive(Clone, Debug)]
pub struct Expression {
    root: Node,
    needs: Needs,
    remarks: Vec<Remark>,
    variables: Box<[Box<str>]>,
    /// Where in its field it starts, for messages.
    start: usize,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root
    }
}

/// Text that compiles to this expression.
impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl Expression {
    /// Compiles what stands between `#[` and `]`.
    pub fn compile(text: &str, bindings: &Bindings) -> Result<Self, CompileError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(CompileError::new(TEXT_BYTES_MAX, format!("more than {TEXT_BYTES_MAX} bytes")));
        }
        let compiled = parser::parse(&lexer::tokens(text)?, bindings)?;
        let parser::Compiled { root, needs, remarks } = compiled;
        Ok(Self { root, needs, remarks, variables: bindings.variables.clone().into(), start: 0 })
    }

    /// Compiles a field that takes nothing but an expression: `#[` and `]` must be there.
    pub fn compile_field(text: &str, bindings: &Bindings) -> Result<Self, CompileError> {
        match Template::compile(text, bindings)? {
            Template::Expression(expression) => Ok(expression),
            Template::Literal(_) => Err(CompileError::new(0, "an expression stands in `#[` and `]`")),
        }
    }

    /// What it reads, known before any request.
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// What works, but hardly as it was meant.
    pub fn remarks(&self) -> &[Remark] {
        &self.remarks
    }

    /// Its value for one exchange.
    pub fn evaluate<'a>(&'a self, context: &'a dyn Context) -> Result<Value<'a>, EvaluationError> {
        self.evaluate_within(context, &mut Budget::default())
    }

    /// As [`Self::evaluate`], paid from what may be left of a budget.
    pub fn evaluate_within<'a>(
        &'a self,
        context: &'a dyn Context,
        budget: &mut Budget,
    ) -> Result<Value<'a>, EvaluationError> {
        let outcome = Evaluator { context, variables: &self.variables, budget }.value(&self.root);
        outcome.map_err(|error| self.placed(error))
    }

    /// Its value as a log shows it ([`Value::into_line`]), piece by piece: a text that `++` joins is nowhere put together. On an
    /// error, what was written is not whole.
    pub fn write_line(
        &self,
        context: &dyn Context,
        budget: &mut Budget,
        write: &mut dyn FnMut(&str),
    ) -> Result<(), EvaluationError> {
        let outcome = Evaluator { context, variables: &self.variables, budget }.write(&self.root, write);
        outcome.map_err(|error| self.placed(error))
    }

    /// With its position in the field.
    fn placed(&self, error: EvaluationError) -> EvaluationError {
        EvaluationError { position: error.position.map(|at| at + self.start), ..error }
    }
}

/// The value of a field that takes both: an expression where it is wrapped in `#[` and `]`, else literal text.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    Literal(Box<str>),
    Expression(Expression),
}

impl Template {
    /// Space around the wrapping, which block scalars of YAML leave, does not count. Positions are those in the field.
    pub fn compile(text: &str, bindings: &Bindings) -> Result<Self, CompileError> {
        let Some(inner) = text.trim().strip_prefix("#[").and_then(|rest| rest.strip_suffix(']')) else {
            return Ok(Self::Literal(text.into()));
        };
        let start = text.len() - text.trim_start().len() + 2;
        let shifted = |position| position + start;
        let compiled = Expression::compile(inner, bindings);
        let mut expression = compiled.map_err(|error| CompileError { position: shifted(error.position), ..error })?;
        expression.start = start;
        expression.remarks.iter_mut().for_each(|remark| remark.position = shifted(remark.position));
        Ok(Self::Expression(expression))
    }

    pub fn needs(&self) -> Needs {
        match self {
            Self::Literal(_) => Needs::default(),
            Self::Expression(expression) => expression.needs,
        }
    }

    pub fn remarks(&self) -> &[Remark] {
        match self {
            Self::Literal(_) => &[],
            Self::Expression(expression) => &expression.remarks,
        }
    }

    pub fn evaluate<'a>(&'a self, context: &'a dyn Context) -> Result<Value<'a>, EvaluationError> {
        match self {
            Self::Literal(text) => Ok(Value::String((&**text).into())),
            Self::Expression(expression) => expression.evaluate(context),
        }
    }
}

/// What an expression may name. Naming anything else fails when it is compiled.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    is_request: bool,
    is_response: bool,
    authentication: bool,
    formats: Vec<Format>,
    variables: Vec<Box<str>>,
}

impl Bindings {
    /// `attributes` of a request, and `authentication`.
    pub fn request() -> Self {
        Self { is_request: true, authentication: true, ..Self::default() }
    }

    /// `attributes` of a response, and `authentication`.
    pub fn response() -> Self {
        Self { is_response: true, authentication: true, ..Self::default() }
    }

    /// `attributes` of both, and `authentication`: for an expression that is evaluated in either direction.
    pub fn both() -> Self {
        Self { is_response: true, ..Self::request() }
    }

    /// And `payload`, read as these formats.
    pub fn with_payload(mut self, formats: &[Format]) -> Self {
        self.formats = formats.to_vec();
        self
    }

    /// And these names behind `vars`.
    pub fn with_variables(mut self, names: &[&str]) -> Self {
        self.variables.extend(names.iter().map(|name| Box::from(*name)));
        self
    }

    /// What a payload is read as.
    pub fn formats(&self) -> &[Format] {
        &self.formats
    }
}

/// What an expression reads. `payload` means that the body must be there before it is evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub attributes: bool,
    pub headers: bool,
    pub authentication: bool,
    pub payload: bool,
    pub variables: bool,
}

/// Something for `check` to say of an expression that compiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// In bytes from the start.
    pub position: usize,
    pub text: String,
}

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}, at byte {}", position + 1)]
pub struct CompileError {
    /// In bytes from the start.
    pub position: usize,
    pub text: String,
}

impl CompileError {
    fn new(position: usize, text: impl Into<String>) -> Self {
        Self { position, text: text.into() }
    }
}

/// Why an expression has no value for one exchange. Says nothing of the values themselves: they may be secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluationError {
    /// In bytes from the start of the field; none where it is the whole that fails.
    pub position: Option<usize>,
    pub fault: Fault,
}

impl EvaluationError {
    fn new(at: At, fault: Fault) -> Self {
        Self { position: (at.0 != At::NOWHERE.0).then_some(at.0), fault }
    }

    fn of_result(fault: Fault) -> Self {
        Self { position: None, fault }
    }
}

impl std::error::Error for EvaluationError {}

impl Display for EvaluationError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "{}, at byte {}", self.fault, position + 1),
            None => self.fault.fmt(f),
        }
    }
}

/// What an evaluation fails for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("{0} cannot take {1}")]
    Type(&'static str, &'static str),
    #[error("`{0}` cannot take {1}")]
    Argument(&'static str, &'static str),
    #[error("{0} cannot be made of {1}")]
    Result(&'static str, &'static str),
    #[error("compared with a number, a string must be one")]
    NotANumber,
    #[error("`fromBase64` of what is no Base64")]
    Base64,
    #[error("binary data that is no UTF-8")]
    Encoding,
    #[error("an encoding other than UTF-8")]
    UnknownEncoding,
    #[error("more than the steps of one evaluation")]
    Steps,
    #[error("more than the output of one evaluation")]
    Output,
}
