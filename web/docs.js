"use strict";
// Lists what openapi.json describes, each with an example to copy.

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/** Returns what a $ref stands for. */
function resolve(document_, schema) {
  if (!schema.$ref) return schema;
  return schema.$ref.slice(2).split("/").reduce((value, key) => value[key], document_);
}

/** Says the type of a field in a few words. */
function typeOf(document_, schema) {
  const found = resolve(document_, schema);
  if (found.anyOf) return found.anyOf.map((option) => typeOf(document_, option)).join(" | ");
  if (found.enum) return found.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (found.const !== undefined) return JSON.stringify(found.const);
  if (found.type === "array") return "[" + typeOf(document_, found.items || {}) + "]";
  return found.type || "any";
}

function boundsOf(schema) {
  const names = { minItems: "items ≥ ", maxItems: "items ≤ ", maxLength: "characters ≤ ", minimum: "≥ ", maximum: "≤ ", exclusiveMaximum: "< " };
  return Object.entries(names).filter(([key]) => key in schema).map(([key, name]) => name + schema[key]).join(", ");
}

function fields(document_, schema) {
  const found = resolve(document_, schema);
  const required = found.required || [];
  const rows = Object.entries(found.properties || {}).map(([name, field]) => make("tr", {},
    make("td", {}, make("code", {}, name + (required.includes(name) ? " *" : ""))),
    make("td", {}, make("code", {}, typeOf(document_, field))),
    make("td", {}, [boundsOf(field), field.default === undefined || field.default === null ? "" : "default " + JSON.stringify(field.default),
      field.description].filter(Boolean).join("; "))));
  return make("div", { className: "table" }, make("table", {}, make("tbody", {}, ...rows)));
}

/** Returns a request made of the fields' examples. */
function exampleOf(document_, schema) {
  const found = resolve(document_, schema);
  return Object.fromEntries(Object.entries(found.properties || {}).filter(([, field]) => field.examples)
    .map(([name, field]) => [name, field.examples[0]]));
}

function curl(document_, path, operation) {
  const address = new URL(path, location.href).href;
  const parts = ["curl " + address];
  if ((operation.security || []).length) parts.push("-H 'Authorization: Bearer TOKEN'");
  if (operation.requestBody) {
    const body = exampleOf(document_, operation.requestBody.content["application/json"].schema);
    parts.push("-H 'Content-Type: application/json'", "-d '" + JSON.stringify(body) + "'");
  }
  return parts.join(" \\\n  ");
}

function card(document_, path, method, operation) {
  const parts = [make("h2", {}, make("span", { className: "method" }, method.toUpperCase()), make("code", {}, path)),
    make("p", {}, operation.summary), make("pre", { tabIndex: 0 }, make("code", {}, curl(document_, path, operation)))];
  if (operation.requestBody) {
    parts.push(make("h3", {}, "Request"), fields(document_, operation.requestBody.content["application/json"].schema));
    parts.push(make("h3", {}, "Answer"), fields(document_, operation.responses[200].content["application/json"].schema));
    const refusals = Object.entries(operation.responses).filter(([status]) => status !== "200");
    parts.push(make("h3", {}, "Refusals"), make("p", { className: "quiet" },
      refusals.map(([status, response]) => status + " " + response.description).join("; ") + ". {\"error\": reason}"));
  }
  return make("section", { className: "card" }, ...parts);
}

async function start() {
  try {
    const document_ = await (await fetch("openapi.json")).json();
    for (const [path, operations] of Object.entries(document_.paths)) {
      for (const [method, operation] of Object.entries(operations)) {
        document.getElementById("main").append(card(document_, path, method, operation));
      }
    }
  } catch (error) {
    const place = document.getElementById("problem");
    place.hidden = false;
    place.textContent = String(error);
  }
}

start();
