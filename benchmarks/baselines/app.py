"""The three requests that baselines are compared on, as one would write them with FastAPI and SQLModel on asyncpg: for uvicorn,
under 'forkloop compare --baselines'."""

import os
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import selectinload
from sqlmodel import Field, Relationship, SQLModel, select
from sqlmodel.ext.asyncio.session import AsyncSession


class OrderTag(SQLModel, table=True):
    __tablename__ = "order_tag_rel"
    order_id: int = Field(foreign_key="order.id", primary_key=True)
    tag_id: int = Field(foreign_key="tag.id", primary_key=True)


class Contact(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str
    email: str


class TagRead(SQLModel):
    name: str


class Tag(TagRead, table=True):
    id: int | None = Field(default=None, primary_key=True)


class LineBase(SQLModel):
    product_id: int
    quantity: int
    price: float


class OrderLine(LineBase, table=True):
    __tablename__ = "order_line"
    id: int | None = Field(default=None, primary_key=True)
    order_id: int | None = Field(default=None, foreign_key="order.id")


class Order(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str
    contact_id: int
    order_lines: list[OrderLine] = Relationship(sa_relationship_kwargs={"order_by": "OrderLine.id"})
    tags: list[Tag] = Relationship(link_model=OrderTag, sa_relationship_kwargs={"order_by": "Tag.id"})

    @property
    def amount_total(self):
        return round(sum(line.quantity * line.price for line in self.order_lines), 2)


class OrderRead(SQLModel):
    id: int
    name: str
    contact_id: int
    order_lines: list[LineBase]
    tags: list[TagRead]
    amount_total: float


class OrderCreate(SQLModel):
    name: str
    contact_id: int
    order_lines: list[LineBase]
    tag_ids: list[int] = []


engine = create_async_engine(
    f"postgresql+asyncpg://{os.environ['DB_USER']}@/{os.environ['DB_NAME']}?host={os.environ['DB_HOST']}",
    pool_size=int(os.environ["BASELINE_CONNECTIONS"]), max_overflow=0)
whole = [selectinload(Order.order_lines), selectinload(Order.tags)]


@asynccontextmanager
async def lifespan(_):
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/contact/{id}", response_model=Contact)
async def contact(id: int):
    async with AsyncSession(engine) as session:
        found = await session.get(Contact, id)
        if not found:
            raise HTTPException(404)
        return found


@app.get("/order", response_model=list[OrderRead])
async def order_list(limit: int = 100, after: int = 0):
    async with AsyncSession(engine) as session:
        return (await session.exec(select(Order).options(*whole).where(Order.id > after).order_by(Order.id).limit(limit))).all()


@app.post("/order", response_model=OrderRead, status_code=201)
async def order_create(order: OrderCreate):
    async with AsyncSession(engine, expire_on_commit=False) as session:
        tags = (await session.exec(select(Tag).where(Tag.id.in_(order.tag_ids)).order_by(Tag.id))).all()
        new = Order(name=order.name, contact_id=order.contact_id, tags=tags, order_lines=[OrderLine(**line.model_dump()) for line in order.order_lines])
        session.add(new)
        await session.commit()
        return new
