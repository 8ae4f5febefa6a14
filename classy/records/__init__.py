"""
Records: every classification is kept, with its time and place, and found again.

`values` says what a record is, `store` what a store of them can do; `sql` is the one over SQLAlchemy, `dynamodb` the
one on AWS; and `recorder` makes records of what Classy answers.
"""
