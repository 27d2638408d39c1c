"""Write the golden files anew."""

from tests.unit.golden import HERE, answers, requests

text = "\n\n".join(f"=== {heading}\n{requests.render(heading)}" for heading in requests.CASES)
(HERE / "requests.txt").write_text(text + "\n", "utf-8")
text = "\n\n".join(f"=== {heading}\n{answers.render(heading)}" for heading in answers.CASES)
(HERE / "answers.txt").write_text(text + "\n", "utf-8")
