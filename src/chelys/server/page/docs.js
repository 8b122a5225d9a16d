// What openapi.json says, to read: routes, what they take, what is sent back.
const main = document.getElementById("routes");

function element(tag, text, ...children) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function kind(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.filter((one) => one.type !== "null").map(kind).join(" or ");
  return schema.enum ? schema.enum.join(", ") : schema.type ?? "anything";
}

function fields(schema, all) {
  const named = schema.$ref ? all.components.schemas[schema.$ref.split("/").pop()] : schema;
  const items = Object.entries(named.properties ?? {}).map(([name, one]) => {
    const needed = named.required?.includes(name) ? " (required)" : "";
    const normal = one.default === undefined || one.default === null ? "" : `, by default ${one.default}`;
    return element("li", `${name}${needed}: ${kind(one)}${normal}. ${one.description ?? ""}`);
  });
  return element("ul", "", ...items);
}

const key = sessionStorage.getItem("key");
const all = await (await fetch("/openapi.json", key ? { headers: { Authorization: `Bearer ${key}` } } : {})).json();
for (const [path, methods] of Object.entries(all.paths)) {
  for (const [method, about] of Object.entries(methods)) {
    const section = element("section", "", element("h2", `${method.toUpperCase()} ${path}`), element("p", about.description));
    for (const { name, schema } of about.parameters ?? []) section.append(element("p", `In the path: ${name}, ${kind(schema)}`));
    for (const [media, { schema }] of Object.entries(about.requestBody?.content ?? {})) {
      section.append(element("p", `Takes ${media}:`), fields(schema, all));
    }
    main.append(section);
  }
}
