/** Types of which the module's statements have values. */
const TYPES = "text name int4 int8 float8 bool oid regclass regrole regnamespace json xid8".split(
  " ",
);

const COMPARISONS = ["=", "<>", "<", ">", "<=", ">="];
const OPERATORS = [...COMPARISONS, "||", "->>", "*", "+", "-", "/", "%"];

/** Functions that Postgres has for other types than these, or for any. */
const FUNCTIONS = [
  ...["setval(text, int8)", "nextval(text)", "pg_advisory_xact_lock(int4)"],
  ...["hashtextextended(text, int4)", "format(text, name, name)", "format(text, text, text)"],
  ...["array_to_string(text[], text)", "pg_total_relation_size(oid)", "unnest(text[])"],
  ...["json_build_object(text, text[], text, text[], text, text[])", "pg_has_role(oid, text)"],
];
const AGGREGATES = ["count(int8)", "json_agg(json)"];

/**
 * Functions and operators for a schema of the path that fail if they are used. Each suits the types of its
 * arguments exactly, so that it is taken in the place of Postgres's own wherever that suits them less.
 */
export const trapsSql: string = [
  ...OPERATORS.flatMap((operator) =>
    TYPES.flatMap((left) =>
      TYPES.map((right) => {
        const returns = COMPARISONS.includes(operator) ? "bool" : "text";
        const name = `trap_${OPERATORS.indexOf(operator)}`;
        return `${trap(`${name}(${left}, ${right})`, returns, `${left} ${operator} ${right}`)};
        CREATE OPERATOR public.${operator} (LEFTARG = ${left}, RIGHTARG = ${right}, FUNCTION = public.${name})`;
      })
    )
  ),
  ...FUNCTIONS.map((signature) => trap(signature, "text", signature)),
  ...AGGREGATES.map((signature, at) => {
    const [name, type] = signature.split(/[()]/);
    return `${trap(`trap_of_${at}(${type}, ${type})`, type ?? "", signature)};
    CREATE AGGREGATE public.${name} (${type}) (SFUNC = public.trap_of_${at}, STYPE = ${type})`;
  }),
].join(";\n");

function trap(signature: string, returns: string, used: string): string {
  return `CREATE FUNCTION public.${signature} RETURNS ${returns} LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION USING MESSAGE = 'it was used: ${used}'; END $$`;
}
