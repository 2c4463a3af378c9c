"use strict";
// Score a shipped model with ONNX Runtime Web; nothing leaves the browser. `window.scoring` is the way in for programs.

const at = (id) => document.getElementById(id);

function tensors(session, fields, rows) {
  const names = session.inputNames;
  if (names.length === 1 && names[0] === "rows") {
    const type = session.inputMetadata?.[0]?.type ?? "float32";
    const flat = rows.flat().map((value) => (value === null ? NaN : Number(value)));
    const data = type === "float64" ? Float64Array.from(flat) : Float32Array.from(flat);
    return { rows: new ort.Tensor(type, data, [rows.length, fields.length]) };
  }
  const feed = {};
  names.forEach((name, number) => {
    const place = fields.findIndex((field) => field.name === name);
    const values = rows.map((row) => row[place]);
    const type = session.inputMetadata?.[number]?.type ?? (fields[place].kind === "string" ? "string" : "float32");
    const shape = [rows.length, 1];
    if (type === "string") feed[name] = new ort.Tensor("string", values.map((value) => value ?? ""), shape);
    else if (type === "int64") feed[name] = new ort.Tensor("int64", BigInt64Array.from(values.map((v) => BigInt(v))), shape);
    else {
      const numbers = values.map((value) => (value === null ? NaN : Number(value)));
      feed[name] = new ort.Tensor(type, type === "float64" ? Float64Array.from(numbers) : Float32Array.from(numbers), shape);
    }
  });
  return feed;
}

async function load() {
  const about = await (await fetch("model.json")).json();
  const bytes = new Uint8Array(await (await fetch("model.onnx")).arrayBuffer());
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  const { fields, classes, probabilities } = about.signature;
  const wanted = session.outputNames.slice(0, probabilities ? 2 : 1);

  async function predict(rows) {
    const answer = await session.run(tensors(session, fields, rows), wanted);
    const labels = Array.from(answer[wanted[0]].data, (value) => (typeof value === "bigint" ? Number(value) : value));
    const known = (value) => (classes ?? []).find((each) => String(each) === String(value) || Number(each) === value) ?? value;
    const found = { predictions: classes ? labels.map(known) : labels };
    if (wanted.length > 1) {
      const width = classes.length;
      const flat = Array.from(answer[wanted[1]].data);
      found.probabilities = rows.map((_, row) => flat.slice(row * width, (row + 1) * width));
    }
    return found;
  }
  return { about, fields, classes, predict };
}

function field(form, { name, kind, categories, low, high, nullable }, example) {
  const label = document.createElement("label");
  label.textContent = name;
  let input;
  if (kind === "string" && categories) {
    input = document.createElement("select");
    for (const each of categories) input.add(new Option(each, each));
  } else {
    input = document.createElement("input");
    if (kind === "bool") input.type = "checkbox";
    else if (kind !== "string") {
      input.type = "number";
      input.step = kind === "int" ? "1" : "any";
      if (low !== null && high !== null) input.title = `training saw ${low} to ${high}`;
    }
  }
  input.name = name;
  input.required = !nullable && kind !== "bool";
  if (kind === "bool") input.checked = Boolean(example);
  else if (example !== null && example !== undefined) input.value = example;
  label.append(input);
  form.append(label);
}

function values(form, fields) {
  return fields.map(({ name, kind }) => {
    const input = form.elements[name];
    if (kind === "bool") return input.checked ? 1 : 0;
    if (input.value === "") return null;
    return kind === "string" ? input.value : Number(input.value);
  });
}

async function main() {
  const scoring = await load();
  const { about, fields, classes, predict } = scoring;
  at("title").textContent = `${about.name} ${about.version}`;
  document.title = at("title").textContent;
  at("about").textContent = about.digest;
  const form = at("form");
  const example = about.golden.rows[0] ?? [];
  fields.forEach((each, place) => field(form, each, example[place]));
  const button = document.createElement("button");
  button.textContent = "Score";
  form.append(button);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const answer = await predict([values(form, fields)]);
    at("answer").textContent = String(answer.predictions[0]);
    const shares = at("shares");
    shares.replaceChildren();
    (answer.probabilities?.[0] ?? []).forEach((share, place) => {
      const row = shares.insertRow();
      row.insertCell().textContent = String(classes[place]);
      row.insertCell().textContent = share.toFixed(4);
    });
  });
  window.scoring = scoring;
}

main().catch((error) => {
  at("title").textContent = "The model cannot be loaded";
  at("about").textContent = String(error);
});
