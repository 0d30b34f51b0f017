// Where it begins.

const report = JSON.parse(byId("data").textContent);
byId("final").append(table(report.final));
showQuestions(report.questions, report.runs);
showTime(report.time, report.runs);
showSettings(report.settings, report.runs);
showRollouts(report.sample, report.runs);
