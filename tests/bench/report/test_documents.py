"""What the documents repeat is what stands where it stands once."""

from bench.report.documents import ROOT, documents, printed

RESULTS = """# Results

## Some data
Words.

```
method  seeds  macro AUC       95 %  AUC acl  minority recall       95 %          skill
------  -----  ---------  ---------  -------  ---------------  ---------  -------------
sslm        5       .723  .673-.768     .769             .257  .182-.350  did not learn
random      5       .848  .807-.881     .838             .507  .414-.600           .183

Words.
```

## No table
"""


def test_tables_are_read_as_printed():
    rows = printed(RESULTS)["some data"]
    assert [row["method"] for row in rows] == ["sslm", "random"]
    assert rows[0]["95 %"] == ".673-.768" and rows[0]["skill"] == "did not learn" and rows[1]["AUC acl"] == ".838"
    assert list(printed(RESULTS)) == ["some data"]


def test_documents_are_current():
    for path, text in documents(ROOT).items():
        assert path.read_text() == text, f"{path.name}: run `make docs`"
