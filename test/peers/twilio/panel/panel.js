// The phones: asks for their state twice a second and draws what changed.
"use strict";
(() => {
  const base = "/twilio/panel/";
  const phones = document.getElementById("phones");
  const speak = document.getElementById("phones-speak");
  const shown = new Map(); // number -> {root, messages, sid, said}
  const words = {
    "queued": "Calling…", "initiated": "Calling…", "ringing": "It rings", "in-progress": "In a call", "completed": "The call is over",
    "busy": "Declined", "no-answer": "Missed call", "failed": "The call failed", "canceled": "The call was cancelled",
  };
  const live = ["ringing", "in-progress"];
  const title = document.title;

  const post = (path, fields) => fetch(base + path, { method: "POST", body: new URLSearchParams(fields || {}) });

  const make = (p) => {
    const root = document.getElementById("phone").content.firstElementChild.cloneNode(true);
    const name = root.querySelector(".name");
    name.textContent = p.name ? p.name + ", " + p.number : p.number;
    name.id = "phone-" + p.number.replace(/\D/g, "");
    root.setAttribute("aria-labelledby", name.id);
    const s = { root, messages: new Set(), sid: "", said: 0 };
    root.querySelector(".answer").addEventListener("click", () => post("calls/" + s.sid + "/answer"));
    root.querySelector(".hangup").addEventListener("click", () => {
      if ("speechSynthesis" in window) speechSynthesis.cancel();
      post("calls/" + s.sid + "/hangup");
    });
    for (const key of "123456789*0#") {
      const b = document.createElement("button");
      b.type = "button";
      b.textContent = key;
      b.setAttribute("aria-label", key === "*" ? "star" : key === "#" ? "hash" : key);
      b.addEventListener("click", () => {
        if ("speechSynthesis" in window) speechSynthesis.cancel();
        post("calls/" + s.sid + "/key", { key });
      });
      root.querySelector(".keypad").append(b);
    }
    root.querySelector(".reply").addEventListener("submit", (e) => {
      e.preventDefault();
      const body = e.target.elements.body;
      if (body.value.trim()) post("reply", { number: p.number, body: body.value.trim() });
      body.value = "";
    });
    phones.append(root);
    shown.set(p.number, s);
    return s;
  };

  const drawCall = (s, call) => {
    const box = s.root.querySelector(".call");
    if (!call) return;
    if (call.sid !== s.sid) {
      s.sid = call.sid;
      s.said = 0;
      box.querySelector(".heard").replaceChildren();
    }
    box.hidden = false;
    const status = box.querySelector(".status"), word = words[call.status] || call.status;
    if (status.textContent !== word) status.textContent = word;
    s.root.classList.toggle("rings", call.status === "ringing");
    box.querySelector(".answer").hidden = call.status !== "ringing";
    box.querySelector(".hangup").textContent = call.status === "ringing" ? "Decline" : "Hang up";
    box.querySelector(".answering").hidden = !live.includes(call.status);
    box.querySelector(".keypad").hidden = call.status !== "in-progress";
    const heard = box.querySelector(".heard");
    for (const line of call.heard.slice(s.said)) {
      const p = document.createElement("p");
      p.textContent = line;
      heard.append(p);
      heard.scrollTop = heard.scrollHeight;
      if (speak.checked && "speechSynthesis" in window) speechSynthesis.speak(new SpeechSynthesisUtterance(line));
    }
    s.said = call.heard.length;
  };

  const drawMessages = (s, messages) => {
    const list = s.root.querySelector(".messages");
    for (const m of messages) {
      if (s.messages.has(m.sid)) continue;
      s.messages.add(m.sid);
      const li = document.createElement("li"), at = document.createElement("time");
      li.textContent = m.body;
      li.classList.toggle("mine", m.mine);
      at.dateTime = m.at;
      at.textContent = new Date(m.at).toISOString().slice(11, 19) + " UTC";
      li.append(at);
      list.append(li);
      list.scrollTop = list.scrollHeight;
    }
  };

  const draw = async () => {
    let all;
    try {
      all = await (await fetch(base + "state", { cache: "no-store" })).json();
    } catch {
      // The demo stops or starts again: ask later.
    }
    setTimeout(draw, 500);
    if (!all) return;
    document.getElementById("phones-none").hidden = all.some((p) => p.call || p.messages.length);
    document.title = (all.some((p) => p.call && p.call.status === "ringing") ? "It rings · " : "") + title;
    for (const p of all) {
      const s = shown.get(p.number) || make(p);
      drawCall(s, p.call);
      drawMessages(s, p.messages);
    }
  };
  draw();
})();
