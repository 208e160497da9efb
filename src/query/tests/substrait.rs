//! Substrait plans: what they answer, what they may see, and which are refused.

use datafusion_substrait::logical_plan::producer::to_substrait_plan;
use datafusion_substrait::substrait::proto::expression::field_reference::{ReferenceType, RootReference, RootType};
use datafusion_substrait::substrait::proto::expression::literal::LiteralType;
use datafusion_substrait::substrait::proto::expression::reference_segment::{
    ReferenceType as SegmentType, StructField,
};
use datafusion_substrait::substrait::proto::expression::subquery::{Scalar, SubqueryType};
use datafusion_substrait::substrait::proto::expression::{
    Cast, FieldReference, Literal, ReferenceSegment, RexType, ScalarFunction, Subquery,
};
use datafusion_substrait::substrait::proto::extensions::SimpleExtensionDeclaration;
use datafusion_substrait::substrait::proto::extensions::simple_extension_declaration::{
    ExtensionFunction, MappingType,
};
use datafusion_substrait::substrait::proto::function_argument::ArgType;
use datafusion_substrait::substrait::proto::read_rel::local_files::FileOrFiles;
use datafusion_substrait::substrait::proto::read_rel::local_files::file_or_files::PathType;
use datafusion_substrait::substrait::proto::read_rel::{LocalFiles, NamedTable, ReadType};
use datafusion_substrait::substrait::proto::rel::RelType;
use datafusion_substrait::substrait::proto::rel_common::{Emit, EmitKind};
use datafusion_substrait::substrait::proto::set_rel::SetOp;
use datafusion_substrait::substrait::proto::r#type::{FixedBinary, Fp64, Kind, Nullability, Struct};
use datafusion_substrait::substrait::proto::{
    ExchangeRel, Expression, FilterRel, FunctionArgument, NamedStruct, Plan, PlanRel, ProjectRel, ReadRel, Rel,
    RelCommon, RelRoot, SetRel, Type, plan_rel,
};
use datafusion_substrait::substrait::version;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::error::ErrorKind;
use crate::model::TableName;

fn asked(plan: impl Into<Bytes>) -> Query {
    Query { language: Language::Substrait, plan: plan.into(), ..query("") }
}

impl Fixture {
    /// The plan of a text, as DataFusion writes it.
    async fn substrait(&self, text: &str) -> Vec<u8> {
        let session = self.queries.sessions.open(&nyc(), &Tables::All);
        let plan = session.create_logical_plan(text).await.unwrap();
        to_substrait_plan(&plan, &session).unwrap_or_else(|error| panic!("{text}: {error}")).encode_to_vec()
    }

    async fn answer_of_plan(&self, plan: impl Into<Bytes>) -> String {
        let query = asked(plan);
        let schema = Arc::clone(self.queries.plan(query.clone()).await.unwrap().schema());
        let batches = self.ask_for(query).await.unwrap();
        sorted(&pretty_format_batches_with_schema(schema, &batches).unwrap().to_string())
    }

    /// The same of a text.
    async fn sorted_answer(&self, text: &str) -> String {
        sorted(&self.answer(text).await)
    }

    async fn refusal(&self, plan: Plan) -> (ErrorKind, String) {
        match self.ask_for(asked(plan.encode_to_vec())).await {
            Ok(rows) => panic!("not refused: {rows:?}"),
            Err(error) => (error.kind(), error.to_string()),
        }
    }
}

/// Rows come in any order where nobody asks for one.
fn sorted(table: &str) -> String {
    let mut lines: Vec<&str> = table.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

async fn weather() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.write("cpu,host=a,region=eu usage=1,idle=9,on=t 1\ncpu,host=b usage=2,idle=8,on=f 2").await;
    fixture.persist().await;
    fixture.write("cpu,host=a,region=eu usage=3,note=\"x\" 3\nmem,host=b used=7i 2").await;
    fixture
}

/// What DataFusion can write as a plan is answered as its text is.
#[tokio::test]
async fn a_plan_answers_what_its_text_answers() {
    let fixture = weather().await;
    for text in [
        "SELECT * FROM cpu ORDER BY time",
        "SELECT host, usage FROM cpu WHERE usage > 1 AND host = 'a' ORDER BY time DESC LIMIT 1",
        "SELECT usage + 1 AS more, host AS of FROM cpu WHERE region IS NULL",
        "SELECT host, count(*) AS n, avg(usage) AS mean, max(time) AS last FROM cpu GROUP BY host ORDER BY host",
        "SELECT c.host, m.used FROM cpu c JOIN mem m ON c.host = m.host AND c.time = m.time ORDER BY m.used",
        "SELECT host FROM cpu WHERE host IN ('a', 'c') UNION ALL SELECT host FROM mem ORDER BY host",
        "SELECT DISTINCT host FROM cpu ORDER BY host",
        "SELECT date_bin(INTERVAL '1 second', time) AS bin, sum(usage) AS s FROM cpu GROUP BY 1 ORDER BY 1",
        "SELECT CASE WHEN usage > 1 THEN 'high' ELSE 'low' END AS how FROM cpu ORDER BY time",
        "SELECT host FROM cpu WHERE usage = (SELECT max(usage) FROM cpu)",
        "SELECT host, row_number() OVER (PARTITION BY host ORDER BY time) AS nth FROM cpu ORDER BY host, nth",
        "SELECT host FROM iox.cpu WHERE time >= '1970-01-01T00:00:00.000000002Z' ORDER BY time",
        "SELECT selector_last(usage, time)['value'] AS last FROM cpu",
        "SELECT 1 AS one, 'x' AS text, NULL AS nothing",
        "SELECT n + 1 AS n FROM (VALUES (1), (2)) v(n) ORDER BY n",
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'iox' ORDER BY table_name",
    ] {
        let plan = fixture.substrait(text).await;
        assert_eq!(fixture.answer_of_plan(plan).await, fixture.sorted_answer(text).await, "{text}");
    }
    let about_queries = fixture.substrait("SELECT count(*) > 0 AS told FROM system.queries").await;
    assert!(fixture.answer_of_plan(about_queries).await.contains("true"));
}

#[tokio::test]
async fn order_and_parameters_are_those_of_the_plan() {
    let fixture = weather().await;
    let ordered = fixture.queries.plan(asked(fixture.substrait("SELECT usage FROM cpu ORDER BY usage").await)).await;
    assert!(ordered.unwrap().ordered());

    let text = "SELECT usage FROM cpu WHERE host = $1 AND usage > $2 ORDER BY usage";
    let plan = fixture.substrait(text).await;
    let planned = fixture.queries.plan(asked(plan.clone())).await.unwrap();
    let names: Vec<_> = planned.parameters().iter().map(|parameter| parameter.name.as_str()).collect();
    assert_eq!(names, ["1", "2"]);
    let values = [("1", Parameter::String("a".to_owned())), ("2", Parameter::Float(1.5))];
    let bound = query_with("", &values).parameters;
    let rows = fixture.ask_for(Query { parameters: bound, ..asked(plan.clone()) }).await.unwrap();
    assert_eq!(rows[0].column(0).as_primitive::<Float64Type>().values(), &[3.0]);
    assert_eq!(fixture.ask_for(asked(plan)).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_plan_sees_the_tables_that_its_asker_may_read() {
    let fixture = weather().await;
    let plan = fixture.substrait("SELECT * FROM cpu").await;
    let only_mem = Tables::Only([TableName::new("mem").unwrap()].into_iter().collect());
    let access = Access { read: only_mem, ..Access::full() };
    let hidden = fixture.ask_for(Query { access: access.clone(), ..asked(plan) }).await.unwrap_err();
    let unknown = fixture.refusal(of(read(&["nowhere"], &["usage"]))).await;
    assert_eq!(hidden.to_string(), unknown.1.replace("nowhere", "cpu"), "as if it were not there");
    let seen = fixture.substrait("SELECT used FROM mem").await;
    assert!(fixture.ask_for(Query { access, ..asked(seen) }).await.is_ok());

    let settings = of(Rel {
        rel_type: Some(RelType::Read(Box::new(ReadRel {
            base_schema: Some(columns(&["name"], Kind::String(Default::default()))),
            read_type: Some(ReadType::NamedTable(named(&["information_schema", "df_settings"]))),
            ..ReadRel::default()
        }))),
    });
    let (kind, said) = fixture.refusal(settings).await;
    assert_eq!((kind, said.contains("read-only")), (ErrorKind::Invalid, true), "{said}");
}

#[tokio::test]
async fn a_plan_is_a_row_of_the_queries_without_its_bytes() {
    let fixture = weather().await;
    let plan = fixture.substrait("SELECT usage FROM cpu").await;
    let bytes = plan.len();
    fixture.ask_for(asked(plan)).await.unwrap();
    let told = format!("SELECT phase FROM system.queries WHERE query_text = 'Substrait plan ({bytes} bytes)'");
    assert_eq!(fixture.ask(&told).await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
}

fn named(names: &[&str]) -> NamedTable {
    NamedTable { names: names.iter().map(|name| (*name).to_owned()).collect(), ..NamedTable::default() }
}

fn columns(names: &[&str], kind: Kind) -> NamedStruct {
    NamedStruct {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        r#struct: Some(Struct {
            types: vec![Type { kind: Some(kind) }; names.len()],
            nullability: Nullability::Required.into(),
            ..Struct::default()
        }),
    }
}

fn float() -> Kind {
    Kind::Fp64(Fp64 { nullability: Nullability::Nullable.into(), ..Fp64::default() })
}

fn read(table: &[&str], names: &[&str]) -> Rel {
    Rel {
        rel_type: Some(RelType::Read(Box::new(ReadRel {
            base_schema: Some(columns(names, float())),
            read_type: Some(ReadType::NamedTable(named(table))),
            ..ReadRel::default()
        }))),
    }
}

fn field(number: i32) -> Expression {
    let segment = ReferenceSegment {
        reference_type: Some(SegmentType::StructField(Box::new(StructField { field: number, child: None }))),
    };
    Expression {
        rex_type: Some(RexType::Selection(Box::new(FieldReference {
            reference_type: Some(ReferenceType::DirectReference(segment)),
            root_type: Some(RootType::RootReference(RootReference {})),
        }))),
    }
}

fn literal(value: LiteralType) -> Expression {
    Expression { rex_type: Some(RexType::Literal(Literal { literal_type: Some(value), ..Literal::default() })) }
}

/// A call of the function 1.
fn call(arguments: Vec<Expression>) -> Expression {
    let arguments = arguments.into_iter().map(|value| FunctionArgument { arg_type: Some(ArgType::Value(value)) });
    Expression {
        rex_type: Some(RexType::ScalarFunction(ScalarFunction {
            function_reference: 1,
            arguments: arguments.collect(),
            ..ScalarFunction::default()
        })),
    }
}

fn project(input: Rel, expressions: Vec<Expression>, emit: Option<Vec<i32>>) -> Rel {
    let emit_kind = emit.map(|output_mapping| EmitKind::Emit(Emit { output_mapping }));
    Rel {
        rel_type: Some(RelType::Project(Box::new(ProjectRel {
            common: Some(RelCommon { emit_kind, ..RelCommon::default() }),
            input: Some(Box::new(input)),
            expressions,
            ..ProjectRel::default()
        }))),
    }
}

fn filter(input: Rel, condition: Expression) -> Rel {
    Rel {
        rel_type: Some(RelType::Filter(Box::new(FilterRel {
            input: Some(Box::new(input)),
            condition: Some(Box::new(condition)),
            ..FilterRel::default()
        }))),
    }
}

/// A plan of these relations, in which the function 1 has this name.
fn calling(function: &str, input: Rel) -> Plan {
    let function = ExtensionFunction { function_anchor: 1, name: function.to_owned(), ..Default::default() };
    Plan {
        extensions: vec![SimpleExtensionDeclaration { mapping_type: Some(MappingType::ExtensionFunction(function)) }],
        relations: vec![PlanRel {
            rel_type: Some(plan_rel::RelType::Root(RelRoot { input: Some(input), names: Vec::new() })),
        }],
        ..Plan::default()
    }
}

fn of(input: Rel) -> Plan {
    calling("add", input)
}

/// By hand, as any other producer might: part of the columns, in another order, over tags that are plain text to it.
#[tokio::test]
async fn a_plan_by_hand_names_part_of_the_columns_in_any_order() {
    let fixture = weather().await;
    let condition = call(vec![field(0), literal(LiteralType::Fp64(1.5))]);
    let plan = calling("gt:any_any", filter(read(&["cpu"], &["usage", "idle"]), condition));
    let expected = fixture.sorted_answer("SELECT usage, idle FROM cpu WHERE usage > 1.5").await;
    assert_eq!(fixture.answer_of_plan(plan.encode_to_vec()).await, expected);
    let swapped = of(read(&["public", "iox", "cpu"], &["usage", "idle"]));
    let expected = fixture.sorted_answer("SELECT usage, idle FROM cpu").await;
    assert_eq!(fixture.answer_of_plan(swapped.encode_to_vec()).await, expected);
    let tag = Kind::String(datafusion_substrait::substrait::proto::r#type::String {
        nullability: Nullability::Nullable.into(),
        ..Default::default()
    });
    let text = Rel {
        rel_type: Some(RelType::Read(Box::new(ReadRel {
            base_schema: Some(columns(&["region", "host"], tag)),
            read_type: Some(ReadType::NamedTable(named(&["cpu"]))),
            ..ReadRel::default()
        }))),
    };
    let expected = fixture.sorted_answer("SELECT region, host FROM cpu").await;
    assert_eq!(fixture.answer_of_plan(of(text).encode_to_vec()).await, expected);
}

#[tokio::test]
async fn what_is_wrong_with_a_plan_is_told() {
    let fixture = weather().await;
    let cpu = || read(&["cpu"], &["usage"]);
    let lacking = |rel_type: RelType| of(Rel { rel_type: Some(rel_type) });
    for (plan, kind, words) in [
        (Plan::default(), ErrorKind::Invalid, "it has 0 trees of relations, send exactly one"),
        (of(Rel::default()), ErrorKind::Invalid, "it lacks a relation"),
        (lacking(RelType::Filter(Box::default())), ErrorKind::Invalid, "it lacks a relation"),
        (lacking(RelType::Join(Box::default())), ErrorKind::Invalid, "it lacks a relation"),
        (lacking(RelType::Cross(Box::default())), ErrorKind::Invalid, "it lacks a relation"),
        (lacking(RelType::Read(Box::default())), ErrorKind::Invalid, "it lacks the columns of a table"),
        (of(read(&[], &["usage"])), ErrorKind::Invalid, "it lacks the name of a table"),
        (of(read(&["nowhere"], &["usage"])), ErrorKind::Invalid, "No table named 'nowhere'"),
        (of(read(&["cpu"], &["usages"])), ErrorKind::Invalid, "usages"),
        (of(read(&["cpu"], &["host"])), ErrorKind::Invalid, "different type"),
        (of(filter(cpu(), Expression::default())), ErrorKind::Invalid, "it lacks an expression"),
        (of(filter(cpu(), field(7))), ErrorKind::Invalid, "it refers to column 7 of a relation that has 1"),
        (of(filter(cpu(), field(-1))), ErrorKind::Invalid, "it refers to column -1"),
        (of(filter(cpu(), field(0))), ErrorKind::Invalid, "Float64"),
        (of(project(cpu(), vec![field(0)], Some(vec![2]))), ErrorKind::Invalid, "it refers to column 2"),
        (calling("no_such", filter(cpu(), call(vec![]))), ErrorKind::Unsupported, "no_such"),
        (lacking(RelType::Write(Box::default())), ErrorKind::Invalid, "queries are read-only"),
        (lacking(RelType::ExtensionLeaf(Default::default())), ErrorKind::Unsupported, "a relation of an extension"),
        (
            lacking(RelType::Exchange(Box::new(ExchangeRel { partition_count: i32::MAX, ..Default::default() }))),
            ErrorKind::Unsupported,
            "exchange",
        ),
        (of(file("file:///etc/passwd")), ErrorKind::Unsupported, "not read by its name"),
    ] {
        let (found, said) = fixture.refusal(plan).await;
        assert_eq!(found, kind, "{words}: {said}");
        assert!(said.contains(words), "{words}: {said}");
    }
    for bytes in [b"SELECT 1".as_slice(), b"\x1a\xff\xff\xff\xff\x0f", &[0xff; 64]] {
        let error = fixture.ask_for(asked(bytes.to_vec())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().starts_with("the Substrait plan can't be read: "), "{error}");
    }
}

fn file(path: &str) -> Rel {
    let item = FileOrFiles { path_type: Some(PathType::UriFile(path.to_owned())), ..FileOrFiles::default() };
    Rel {
        rel_type: Some(RelType::Read(Box::new(ReadRel {
            base_schema: Some(columns(&["usage"], float())),
            read_type: Some(ReadType::LocalFiles(LocalFiles { items: vec![item], ..LocalFiles::default() })),
            ..ReadRel::default()
        }))),
    }
}

/// Small in bytes, large when planned.
#[tokio::test]
async fn a_plan_that_would_grow_is_refused() {
    let fixture = weather().await;
    let cpu = || read(&["cpu"], &["usage"]);
    let deep = |depth: usize| (0..depth).fold(field(0), |inner, _| call(vec![inner, field(0)]));
    let nested = |depth: usize| (0..depth).fold(cpu(), |inner, _| filter(inner, literal(LiteralType::Boolean(true))));
    let subqueries = |depth: usize| {
        (0..depth).fold(project(cpu(), vec![field(0)], Some(vec![1])), |inner, _| {
            let scalar = Scalar { input: Some(Box::new(inner)) };
            let subquery = Subquery { subquery_type: Some(SubqueryType::Scalar(Box::new(scalar))) };
            let subquery = Expression { rex_type: Some(RexType::Subquery(Box::new(subquery))) };
            project(cpu(), vec![subquery], Some(vec![1]))
        })
    };
    let union = |count: usize| Rel {
        rel_type: Some(RelType::Set(SetRel {
            inputs: vec![cpu(); count],
            op: SetOp::UnionAll.into(),
            ..SetRel::default()
        })),
    };
    let long = literal(LiteralType::String("x".repeat(100_000)));
    let bytes = |length: i32| Kind::FixedBinary(FixedBinary { length, ..FixedBinary::default() });
    let cast = |length: i32| Expression {
        rex_type: Some(RexType::Cast(Box::new(Cast {
            r#type: Some(Type { kind: Some(bytes(length)) }),
            input: Some(Box::new(field(0))),
            ..Cast::default()
        }))),
    };
    for (plan, words) in [
        (of(project(cpu(), vec![deep(200)], None)), "nests more than 100 messages"),
        (of(nested(200)), "nests more than 100 messages"),
        (of(subqueries(9)), "nested subqueries"),
        (of(union(600)), "tables"),
        (calling("xor", filter(cpu(), deep(20))), "operators"),
        (of(project(cpu(), vec![field(0); 5001], None)), "columns"),
        (of(project(cpu(), vec![field(0)], Some(vec![1; 502]))), "repeated columns"),
        (of(project(cpu(), vec![long], Some(vec![1; 20]))), "bytes of repeated expressions"),
        (of(project(cpu(), vec![cast(i32::MAX)], None)), "fixed length 2147483647"),
    ] {
        let (kind, said) = fixture.refusal(plan).await;
        assert_eq!(kind, ErrorKind::Invalid, "{words}: {said}");
        assert!(said.contains(words), "{words}: {said}");
    }
    let (kind, said) = fixture.refusal(of(read(&["cpu"], &[&"x".repeat(300_000)]))).await;
    assert_eq!((kind, said.contains("more than the 262144 that are allowed")), (ErrorKind::TooLarge, true), "{said}");
    for plan in [of(project(cpu(), vec![deep(25)], None)), of(nested(40)), of(union(20))] {
        fixture.ask_for(asked(plan.encode_to_vec())).await.unwrap_or_else(|error| panic!("{}", error.report()));
    }
}

#[test]
fn the_newest_release_is_the_one_that_the_definitions_are_of() {
    let release = version::version();
    let newest = format!("{}.{}.{}", release.major_number, release.minor_number, release.patch_number);
    assert_eq!(crate::query::SUBSTRAIT_VERSIONS.1, newest);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A plan of which some bytes were changed is planned or refused; nothing of it is a defect of the server.
    #[test]
    fn a_damaged_plan_is_a_plan_or_a_reason(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        which in 0_usize..4,
    ) {
        static PLANS: LazyLock<(Fixture, Vec<Vec<u8>>)> = LazyLock::new(|| {
            IO.block_on(async {
                let fixture = weather().await;
                let mut plans = Vec::new();
                for text in [
                    "SELECT host, count(*) AS n FROM cpu WHERE usage > 1 GROUP BY host ORDER BY n LIMIT 3",
                    "SELECT c.usage FROM cpu c JOIN mem m ON c.host = m.host WHERE c.host IN ('a', 'b', 'c', 'd')",
                    "SELECT usage + 1, CASE WHEN on THEN 1 ELSE 2 END FROM cpu WHERE time > '1970-01-01' ",
                    "SELECT host FROM cpu WHERE usage = (SELECT max(usage) FROM cpu) UNION ALL SELECT host FROM mem",
                ] {
                    plans.push(fixture.substrait(text).await);
                }
                (fixture, plans)
            })
        });
        let (fixture, plans) = &*PLANS;
        let mut plan = plans[which].clone();
        for (index, byte) in changes {
            let place = index.index(plan.len());
            plan[place] = byte;
        }
        if let Err(error) = IO.block_on(fixture.queries.plan(asked(plan))) {
            prop_assert_ne!(error.kind(), ErrorKind::Internal, "{}", error.report());
        }
    }
}
