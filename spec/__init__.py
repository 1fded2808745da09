"""The standard: its pages (Markdown beside this file), read as data, and the operator table.

`convform.spec.clauses` reads clauses, misreadings and worked examples from the pages, and
`convform.spec.operators` is the table of operators and parameters. Nothing here imports another
part of convform.
"""
