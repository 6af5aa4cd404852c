"use strict";
// The page of serve.py: asks the service it came from, and nobody else.

// ---------------------------------------------------------------------------------------------
// Words
// ---------------------------------------------------------------------------------------------

const WORDS = {
  zh: {
    skip: "跳到内容", tasks: "功能", similarity: "句子相似度", classify: "分类", fill: "填空", batch: "批量",
    first: "第一句", second: "第二句", compare: "比较", example: "换一个例子",
    text: "文本", addSecond: "再加一句（用于句对模型）", secondText: "第二段文本", classifyIt: "分类",
    masked: "带 [MASK] 的文本", fillIt: "填空", insertMask: "插入 [MASK]",
    task: "任务", lines: "每行一条", run: "全部计算", file: "打开文件…", download: "下载 CSV",
    linesPairs: "每行两句，用制表符（Tab）或 ||| 隔开。", linesTexts: "每行一段文本；句对用制表符（Tab）或 ||| 隔开。",
    token: "访问令牌", open: "进入", tokenHint: "这个服务设了令牌；它只留在本标签页里。",
    private: "文本只发送给这台服务器，不会被保存。", docs: "接口文档",
    same: "意思相同", different: "意思不同", cosine: "余弦相似度",
    sameClass: (label) => `类别“${label}”（意思相同）的概率`,
    took: (all, model) => `${all} 毫秒，其中模型 ${model} 毫秒`,
    about: (m) => `${m.layers} 层，宽度 ${m.hidden_size}，每条最多 ${m.max_tokens} 个 token` +
      (m.labels.length ? `，${m.labels.length} 个类别` : "，未微调"),
    best: (label, p) => `最可能的类别：${label}（${p}）`,
    mask: (n, count) => count > 1 ? `第 ${n} 个 [MASK]` : "[MASK] 处的候选词",
    computed: (n) => `已计算 ${n} 条`, lineWrong: (n) => `第 ${n} 行没有两句话：请用制表符（Tab）或 ||| 隔开。`,
    none: "没有可以计算的行。", noMask: "请在文本里写上 [MASK]。", unreachable: "连不上服务，请稍后再试。",
    badToken: "令牌不对。", notUtf8: "文件不是 UTF-8 编码。", first_: "第一句", second_: "第二句", label: "类别", probability: "概率",
    number: "行号", failed: "请求没有成功",
  },
  en: {
    skip: "Skip to the content", tasks: "Tasks", similarity: "Similarity", classify: "Classify", fill: "Fill in", batch: "Batch",
    first: "First sentence", second: "Second sentence", compare: "Compare", example: "Another example",
    text: "Text", addSecond: "A second text (for models of pairs)", secondText: "Second text", classifyIt: "Classify",
    masked: "Text with [MASK]", fillIt: "Fill in", insertMask: "Insert [MASK]",
    task: "Task", lines: "One a line", run: "Compute all", file: "Open a file…", download: "Download CSV",
    linesPairs: "Two sentences a line, between them a tab or |||.", linesTexts: "A text a line; of a pair, a tab or ||| between the two.",
    token: "Access token", open: "Open", tokenHint: "This service asks for a token; it stays in this tab.",
    private: "Texts go to this server only and are not kept.", docs: "API",
    same: "the same meaning", different: "different meanings", cosine: "cosine similarity",
    sameClass: (label) => `probability of class “${label}” (the same meaning)`,
    took: (all, model) => `${all} ms, the model ${model} ms of it`,
    about: (m) => `${m.layers} layers, width ${m.hidden_size}, at most ${m.max_tokens} tokens` +
      (m.labels.length ? `, ${m.labels.length} classes` : ", not fine-tuned"),
    best: (label, p) => `Most probable class: ${label} (${p})`,
    mask: (n, count) => count > 1 ? `[MASK] number ${n}` : "Candidates for [MASK]",
    computed: (n) => `${n} computed`, lineWrong: (n) => `Line ${n} does not hold two sentences: put a tab or ||| between them.`,
    none: "There is no line to compute.", noMask: "Write [MASK] where a word is wanted.", unreachable: "The service cannot be reached; try again later.",
    badToken: "The token is wrong.", notUtf8: "The file is not UTF-8.", first_: "first", second_: "second", label: "label", probability: "probability",
    number: "line", failed: "The request failed",
  },
};

const EXAMPLES = {
  similarity: [
    ["我喜欢妈妈做的汤", "妈妈做的汤我很喜欢喝"], ["怎么修改支付宝账户名", "怎样更改支付宝的账户名"],
    ["今天下雨", "股市大涨"],
  ],
  classify: [["怎么修改支付宝账户名", "怎样更改支付宝的账户名"], ["球队夺得联赛冠军", ""], ["股市今天大涨", ""]],
  fill: [["今天天[MASK]很好，我们去公园玩"], ["中国的首都是[MASK]京"], ["他[MASK]欢读书"]],
  batch: [
    ["我喜欢妈妈做的汤\t妈妈做的汤我很喜欢喝\n今天下雨\t股市大涨\n怎么修改支付宝账户名\t怎样更改支付宝的账户名"],
  ],
};

let language = "zh";
let model = null;
let token = "";
let batchRows = null; // header and rows of the last batch, for the CSV
const said = {}; // what draws the present answer of a panel, to be drawn anew in the other language

const $ = (id) => document.getElementById(id);
const t = (key) => WORDS[language][key];

/** Makes an element. Texts are set as texts, never as markup. */
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function remember(key, value) {
  try {
    if (value === undefined) return sessionStorage.getItem(key);
    sessionStorage.setItem(key, value);
  } catch {
    // A browser may forbid storage: then it is asked for again.
  }
  return null;
}

function setLanguage(wanted) {
  language = wanted;
  remember("language", wanted);
  document.documentElement.lang = wanted === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
  }
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === wanted));
  }
  if (model) $("model").textContent = t("about")(model);
  showLinesHint();
  for (const draw of Object.values(said)) draw();
}

// ---------------------------------------------------------------------------------------------
// Asking
// ---------------------------------------------------------------------------------------------

/** Why something could not be had: `key` of WORDS, or a reason that the service gave. */
class Problem extends Error {
  constructor(key, reason = "", status = 0) {
    super(reason || key);
    Object.assign(this, { key, reason, status });
  }

  get text() {
    return this.reason ? `${t(this.key)}: ${this.reason}` : t(this.key);
  }
}

/** Asks the service. Returns [answer, milliseconds in all, milliseconds of the model]. */
async function ask(path, body) {
  const headers = {};
  if (token) headers.Authorization = "Bearer " + token;
  if (body) headers["Content-Type"] = "application/json";
  const begin = performance.now();
  let response, answer;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
    answer = await response.json();
  } catch {
    throw new Problem("unreachable");
  }
  if (!response.ok) throw new Problem("failed", answer.error, response.status);
  const timing = /model;dur=([\d.]+)/.exec(response.headers.get("Server-Timing") || "");
  return [answer, performance.now() - begin, timing ? Number(timing[1]) : 0];
}

function showProblem(problem) {
  const place = $("problem");
  delete said.problem;
  place.hidden = !problem;
  place.textContent = "";
  if (problem) {
    said.problem = () => { place.textContent = problem.text; };
    said.problem();
  }
}

/** Runs the form of a panel: `compute` returns a function that draws the answer. */
function onSubmit(panel, compute) {
  const form = $(panel).querySelector("form");
  const button = form.querySelector("button.primary");
  const answer = $(panel).querySelector(".answer");
  const time = form.querySelector(".time");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    showProblem(null);
    button.disabled = true;
    try {
      const [draw, all, ofModel] = await compute();
      said[panel] = () => {
        answer.replaceChildren(...draw());
        time.textContent = t("took")(all.toFixed(1), ofModel.toFixed(1));
      };
      said[panel]();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      delete said[panel];
      answer.replaceChildren();
      time.textContent = "";
      showProblem(problem);
    } finally {
      button.disabled = false;
    }
  });
  // Ctrl+Enter sends, since Enter makes a new line.
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}

// ---------------------------------------------------------------------------------------------
// Answers
// ---------------------------------------------------------------------------------------------

const percent = (number) => (100 * number).toFixed(1) + " %";

function bar(share) {
  const fill = make("div");
  fill.style.width = 100 * Math.min(Math.max(share, 0), 1) + "%";
  return make("div", { className: "bar", "aria-hidden": "true" }, fill);
}

function bars(rows, kind = "") {
  return make("ul", { className: "bars " + kind }, ...rows.map(([name, share], number) =>
    make("li", { className: number ? "" : "best" }, make("span", { className: "name" }, name), bar(share),
      make("span", { className: "number" }, percent(share)))));
}

function similarityAnswer(answer) {
  const number = answer.similarities[0];
  const byCosine = answer.method === "cosine";
  return () => [
    make("p", { className: "verdict" }, make("strong", {}, byCosine ? number.toFixed(3) : percent(number)),
      make("span", {}, t(byCosine ? "cosine" : number >= 0.5 ? "same" : "different"))),
    bar(number),
    ...(byCosine ? [] : [make("p", { className: "quiet" }, t("sameClass")(answer.label))]),
  ];
}

function classifyAnswer(answer) {
  const result = answer.results[0];
  const rows = answer.labels.map((label, number) => [label, result.probabilities[number]]);
  rows.sort((a, b) => b[1] - a[1]);
  return () => [make("h2", {}, t("best")(result.label, percent(result.probability))), bars(rows)];
}

function fillAnswer(answer) {
  const masks = answer.results[0];
  return () => [make("div", { className: "columns" }, ...masks.map((words, number) => make("section", {},
    make("h2", {}, t("mask")(number + 1, masks.length)),
    bars(words.map((word) => [word.word, word.probability]), "words"))))];
}

// ---------------------------------------------------------------------------------------------
// Many at once
// ---------------------------------------------------------------------------------------------

const batchTask = () => $("batch").querySelector("input[name=task]:checked").value;

function showLinesHint() {
  if (model) $("lines-hint").textContent = t(batchTask() === "similarity" ? "linesPairs" : "linesTexts");
}

/** Returns [line number, text or pair] of the lines that are not blank. */
function readLines(task) {
  const rows = [];
  $("lines").value.split(/\r?\n/).forEach((line, index) => {
    if (!line.trim()) return;
    const parts = line.split(/\t|\|\|\|/).map((part) => part.trim());
    if (parts.length > 2 || (task === "similarity" && parts.length !== 2)) {
      throw new LineProblem(index + 1);
    }
    rows.push([index + 1, parts.length === 2 ? parts : parts[0]]);
  });
  if (!rows.length) throw new Problem("none");
  return rows;
}

class LineProblem extends Problem {
  constructor(line) {
    super("failed");
    this.line = line;
  }

  get text() {
    return t("lineWrong")(this.line);
  }
}

async function computeBatch() {
  const task = batchTask();
  const rows = readLines(task);
  const progress = $("progress");
  const found = [];
  let all = 0, ofModel = 0;
  progress.max = rows.length;
  progress.value = 0;
  progress.hidden = false;
  try {
    // A request has bounds on its items and its bytes; a character has three bytes at most here.
    let start = 0;
    while (start < rows.length) {
      let end = start, bytes = 0;
      while (end < rows.length && end - start < model.limits.items) {
        bytes += 4 * JSON.stringify(rows[end][1]).length + 8;
        if (end > start && bytes > 0.9 * model.limits.body_bytes) break;
        end++;
      }
      const items = rows.slice(start, end).map((row) => row[1]);
      const body = task === "similarity" ? { pairs: items } : { texts: items };
      const [answer, milliseconds, model_] = await ask("v1/" + task, body);
      all += milliseconds;
      ofModel += model_;
      found.push(...(task === "similarity" ? answer.similarities.map((number) => [number])
        : answer.results.map((result) => [result.label, result.probability])));
      start = progress.value = end;
    }
  } finally {
    progress.hidden = true;
  }
  const table = rows.map(([number, item], index) => [number, ...(Array.isArray(item) ? item : [item, ""]), ...found[index]]);
  const asPairs = table.some((row) => row[2] !== "");
  return [() => drawBatch(task, asPairs, table), all, ofModel];
}

function drawBatch(task, asPairs, table) {
  const names = [t("number"), t("first_"), t("second_"),
    ...(task === "similarity" ? [t("similarity")] : [t("label"), t("probability")])];
  const keep = (row) => row.filter((_, column) => asPairs || column !== 2);
  batchRows = [keep(names), ...table.map(keep)];
  const numeric = (value) => typeof value === "number" && !Number.isInteger(value);
  const cells = (row) => row.map((value, column) => make("td", { className: column && typeof value === "number" ? "number" : "" },
    numeric(value) ? value.toFixed(4) : String(value)));
  const button = make("button", { type: "button", className: "plain", id: "download" }, t("download"));
  button.addEventListener("click", downloadCsv);
  return [
    make("div", { className: "row" }, make("strong", {}, t("computed")(table.length)), button),
    make("div", { className: "table", tabIndex: 0, role: "region", "aria-label": t("batch") }, make("table", {},
      make("thead", {}, make("tr", {}, ...batchRows[0].map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...batchRows.slice(1).map((row) => make("tr", {}, ...cells(row)))))),
  ];
}

/** One field of CSV as RFC 4180 has it; a text that a spreadsheet would run as a formula is defused. */
function csvField(value) {
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@]/.test(text)) text = "'" + text;
  return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

function downloadCsv() {
  const lines = batchRows.map((row) => row.map(csvField).join(",") + "\r\n");
  // The byte order mark tells spreadsheets that this is UTF-8.
  const address = URL.createObjectURL(new Blob(["\ufeff", ...lines], { type: "text/csv;charset=utf-8" }));
  const link = make("a", { href: address, download: "albert_zh.csv" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

async function readFile(file) {
  try {
    $("lines").value = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    showProblem(null);
  } catch {
    showProblem(new Problem("notUtf8"));
  }
}

// ---------------------------------------------------------------------------------------------
// Tabs
// ---------------------------------------------------------------------------------------------

const offeredTabs = () => [...document.querySelectorAll("[role=tab]")].filter((tab) => !tab.hidden);

function selectTab(chosen, focus = false) {
  showProblem(null);
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const selected = tab === chosen;
    tab.setAttribute("aria-selected", String(selected));
    tab.tabIndex = selected ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !selected;
  }
  if (focus) chosen.focus();
}

function onTabKey(event) {
  const tabs = offeredTabs();
  const place = tabs.indexOf(event.target);
  const next = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (place < 0 || next === undefined) return;
  event.preventDefault();
  selectTab(tabs[(next + tabs.length) % tabs.length], true);
}

/** Offers what the model can do. */
function offer() {
  const can = (ability) => model.abilities.includes(ability);
  // Without a classifier of two classes, similarity is the cosine of two vectors.
  const offered = { similarity: can("compare") || !can("classify"), classify: can("classify"), fill: can("fill-mask"), batch: true };
  for (const [name, yes] of Object.entries(offered)) $("tab-" + name).hidden = !yes;
  for (const radio of document.querySelectorAll("input[name=task]")) {
    radio.closest("label").hidden = !offered[radio.value];
    radio.checked = offered[radio.value] && !document.querySelector("input[name=task]:checked");
  }
  for (const name of Object.keys(EXAMPLES)) showExample(name);
  selectTab(offeredTabs()[0]);
}

const shown = {}; // which example of a panel comes next

function showExample(panel) {
  const number = shown[panel] || 0;
  shown[panel] = (number + 1) % EXAMPLES[panel].length;
  const fields = $(panel).querySelectorAll("textarea");
  let texts = EXAMPLES[panel][number];
  // A model of single texts gets none of the pairs.
  if (panel === "classify" && !model.abilities.includes("compare")) texts = [texts[0], ""];
  if (panel === "batch" && !model.abilities.includes("compare") && model.abilities.includes("classify")) {
    texts = [texts[0].replaceAll("\t", "\n")];
  }
  texts.forEach((text, index) => { fields[index].value = text; });
  if (panel === "classify") fields[1].closest("details").open = Boolean(texts[1]);
}

// ---------------------------------------------------------------------------------------------
// The start
// ---------------------------------------------------------------------------------------------

async function start() {
  showProblem(null);
  try {
    [model] = await ask("v1/model");
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    const locked = problem.status === 401;
    $("token-form").hidden = !locked;
    if (!locked || token) showProblem(locked ? new Problem("badToken") : problem);
    if (locked) $("token").focus();
    return;
  }
  remember("token", token);
  $("token-form").hidden = true;
  $("work").hidden = false;
  document.title = model.name;
  document.querySelector("h1").textContent = model.name;
  offer();
  setLanguage(language);
}

onSubmit("similarity", async () => {
  const [answer, ...times] = await ask("v1/similarity", { pairs: [[$("first").value, $("second").value]] });
  return [similarityAnswer(answer), ...times];
});

onSubmit("classify", async () => {
  const text = $("text").value, second = $("text-b").value.trim();
  const [answer, ...times] = await ask("v1/classify", { texts: [second ? [text, second] : text] });
  return [classifyAnswer(answer), ...times];
});

onSubmit("fill", async () => {
  const text = $("masked").value;
  if (!text.includes("[MASK]")) throw new Problem("noMask");
  const [answer, ...times] = await ask("v1/fill-mask", { texts: [text], top: 8 });
  return [fillAnswer(answer), ...times];
});

onSubmit("batch", computeBatch);

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  start();
});
$("tabs").addEventListener("click", (event) => {
  const tab = event.target.closest("[role=tab]");
  if (tab) selectTab(tab);
});
$("tabs").addEventListener("keydown", onTabKey);
$("batch-task").addEventListener("change", showLinesHint);
$("file").addEventListener("change", (event) => {
  if (event.target.files.length) readFile(event.target.files[0]);
  event.target.value = ""; // the same file may be opened again
});
$("insert-mask").addEventListener("click", () => {
  const field = $("masked");
  field.setRangeText("[MASK]", field.selectionStart, field.selectionEnd, "end");
  field.focus();
});
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => showExample(button.dataset.example));
}
for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => setLanguage(button.dataset.language));
}

setLanguage(remember("language") || (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en"));
token = remember("token") || "";
start();
