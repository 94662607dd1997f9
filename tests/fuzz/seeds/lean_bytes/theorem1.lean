theorem thm0 (p q r : Prop) : (q ∨ r → (p ∧ q) ∧ r) ∧ ((r ∧ False) ∧ p ∨ r) ∨ (r → r) := by
  right
  intro h1
  exact h1

