from __future__ import annotations

from metaflow import FlowSpec, Parameter, step


class Five(FlowSpec):
    x = Parameter("x", default=1, type=int)

    @step
    def start(self):
        self.value = self.x + 1
        self.next(self.second)

    @step
    def second(self):
        self.value = self.value * 2
        self.next(self.third)

    @step
    def third(self):
        self.value = self.value - 3
        self.next(self.fourth)

    @step
    def fourth(self):
        self.value = self.value * self.value
        self.next(self.end)

    @step
    def end(self):
        self.value = self.value % 7
        if self.value != ((self.x + 1) * 2 - 3) ** 2 % 7:
            raise SystemExit("wrong answer")


if __name__ == "__main__":
    Five()
